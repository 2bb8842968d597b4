"""The schema that images and videos share: every key, its default, and what it means.

The docstring under a field is what `--help` prints. `__post_init__` only checks values against each other; types are
checked while reading (`seppo_core.config.loader`), paths by the command that reads them (`seppo_core.cli`). Neither
torch nor diffusers is imported here, so that `--help` answers at once.
"""

from dataclasses import dataclass, field
from typing import Literal

from seppo_core.config.data import DataConfig
from seppo_core.config.method import (
    NOISY_SCHEDULERS,
    AnchoredConfig,
    MethodConfig,
    ReferenceSamplesConfig,
    check_flow,
    check_not_flow,
)
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.model import ModelConfig
from seppo_core.config.monitoring import HealthConfig, LogConfig
from seppo_core.config.training import LoopConfig, OptimizerConfig, PreviewConfig
from seppo_core.config.validators import above, at_least


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Which weights are trained."""

    mode: Literal["full", "lora"] = "full"
    """Train the weights themselves (full), or a LoRA on the attention projections (lora)."""
    scope: Literal["all", "motion", "spatial"] = "all"
    """Modules of the denoiser that are trained: all; or, in a video model with motion modules, these alone (motion) or
    all others (spatial)."""
    rank: int = 16
    """Rank of the LoRA matrices."""
    alpha: float | None = None
    """Scale of the LoRA, whose output is multiplied by alpha / rank; null takes the rank."""

    def __post_init__(self):
        at_least("tune", self, 1, "rank")
        above("tune", self, 0, "alpha")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run depends on; images and videos extend it."""

    run: str
    """Output folder of checkpoints, metrics, previews and this config. The same command continues a stopped run."""
    seed: int = 0
    """Random seed of data order, noise, timesteps and the draws of the reference. Results do not depend on the number
    of processes."""
    draws: int | None = None
    """Version of the numbers that the seed stands for, and of the rates of a warm-up: 1 for runs from before this key,
    2 for others. Null takes that of the run that is continued, and 2 for a new run."""
    model: ModelConfig
    data: DataConfig
    method: MethodConfig = field(default_factory=SeppoConfig)
    reference_samples: ReferenceSamplesConfig = field(default_factory=ReferenceSamplesConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    preview: PreviewConfig = field(default_factory=PreviewConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self):
        if self.draws not in (None, 1, 2):
            raise ValueError(f"draws={self.draws} should be 1, 2 or null; leave it out")
        total = self.loop.iterations * self.loop.updates_per_iteration
        if self.optimizer.warmup_updates >= total:
            raise ValueError(
                f"optimizer.warmup_updates={self.optimizer.warmup_updates} must be less than the {total} updates of "
                f"the run (loop.iterations x loop.updates_per_iteration); use at most {total - 1}"
            )
        if (
            isinstance(self.method, AnchoredConfig)
            and (self.method.strategy == "latest" or self.method.pool_window == 1)
            and self.loop.updates_per_iteration == 1
        ):
            raise ValueError(
                "loop.updates_per_iteration=1 with method.reference=latest gives policy and reference the same weights "
                "at every update, so that every sign is a tie; use 2 or more updates per iteration"
            )
        if self.loop.keep_best and (self.preview.judge is None or not self.preview.every):
            lacks = "judge" if self.preview.judge is None else "every"
            raise ValueError(
                "loop.keep_best=true keeps the checkpoint whose preview scores best, and needs preview.judge and "
                f"preview.every; set preview.{lacks}"
            )
        self._check_judged()
        if self.loop.reference_draws is not None:
            _check_kept(self)
        if self.reference_samples.repeat_after is not None:
            _check_repeated(self)
        if self.reference_samples.uses != 1:
            _check_used(self)
        if self.loop.sharded and self.optimizer.name != "adamw":
            raise ValueError(
                f"optimizer.name={self.optimizer.name} does not support loop.sharded=true; use adamw, or do not shard"
            )
        if self.optimizer.fused and self.loop.mixed_precision == "fp16":
            raise ValueError(
                "optimizer.fused=true steps before it is known whether the gradients of loop.mixed_precision=fp16 are "
                "finite; leave it out, or use bf16"
            )
        if self.loop.context_parallel > 1 and self.model.spec.context is None:
            raise ValueError(
                f"loop.context_parallel={self.loop.context_parallel} splits the tokens of an item by a plan of "
                f"diffusers, which has none for {self.model.family}; leave it at 1, or share the model (loop.sharded)"
            )
        if self.loop.offload_reference and (self.tune.mode == "lora" or not self.holds_reference):
            raise ValueError(
                f"loop.offload_reference=true has no effect with tune.mode={self.tune.mode} and method.name="
                f"{self.method.name}, where the reference has no weights of its own; leave it out"
            )
        family, spec = self.model.family, self.model.spec
        interval = self.reference_samples.guidance_interval
        if interval is not None and not spec.cfg:
            raise ValueError(
                f"reference_samples.guidance_interval={list(interval)} leaves out the second pass of classifier-free "
                f"guidance, and {family} has none; leave it out"
            )
        check_fits(self)
        if self.tune.scope not in spec.scopes:
            raise ValueError(f"tune.scope={self.tune.scope} should be {' or '.join(spec.scopes)} for {family}")
        if spec.flow:
            check_flow(self.method, family)
            _check_flow_solvers(self)
        else:
            check_not_flow(self.method, family)

    @property
    def holds_reference(self) -> bool:
        """Whether a run keeps earlier weights beside the policy: for its loss, or to draw what its judge scores."""
        return self.method.spec.uses_reference or self.loop.judge is not None

    @property
    def in_half_precision(self) -> bool:
        """Whether the run computes in half precision."""
        return self.loop.mixed_precision != "no" or (self.tune.mode == "lora" and self.model.dtype != "float32")

    @property
    def refers_to_base(self) -> bool:
        """Whether a LoRA that starts from zero has no other reference than the base, which is computed without one."""
        m, from_zero = self.method, self.tune.mode == "lora" and self.model.lora is None
        return from_zero and self.loop.judge is None and m.strategy == m.sampled_from == "initial"

    @property
    def sample_epochs(self) -> int | None:
        """Number of epochs after which the reference's samples come again; None never."""
        return self.loop.reference_draws or self.reference_samples.repeat_after

    @property
    def generated(self) -> int:
        """Number of samples that an iteration draws: those of the reference, and those that loop.judge scores."""
        return self.loop.generated(self.method.spec, self.reference_samples.uses)

    def _check_judged(self) -> None:
        solver = self.reference_samples.scheduler
        if self.method.noise == "tracked" and solver in NOISY_SCHEDULERS and self.generated:
            raise ValueError(
                f"method.noise=tracked needs samples that one noise gives, and reference_samples.scheduler={solver} "
                "draws more between its steps; use ddim, euler or dpm++"
            )
        judge, supervision = self.loop.judge, self.data.supervision
        if judge is None and supervision == "prompts":
            raise ValueError(
                "data.supervision=prompts has captions alone, of which the policy's samples are judged; set loop.judge "
                "to what scores them"
            )
        if judge is not None and supervision != "prompts":
            raise ValueError(
                f"loop.judge={judge} makes winners of captions alone, and data.supervision={supervision} has them "
                "already; set data.supervision=prompts, or leave the judge out"
            )

        size = self.loop.updates_per_iteration * self.loop.batch_size
        if judge is not None and not self.method.spec.pairs_candidates and size % self.loop.judge_samples:
            raise ValueError(
                f"loop.judge_samples={self.loop.judge_samples} does not divide the {size} samples of an iteration "
                f"(loop.updates_per_iteration x loop.batch_size), all of which method.name={self.method.name} trains on"
            )

    @property
    def export_kinds(self) -> tuple[str, ...]:
        """What `export` can write for this kind of model."""
        return ("lora", "full", "motion") if "motion" in self.model.spec.scopes else ("lora", "full")

    def weight_paths(self) -> dict[str, str | None]:
        """Where weights are loaded from, by config key: hub ids or local paths."""
        own = {"base": self.model.base, "vae": self.model.vae, "lora": self.model.lora} | self.model.parts()
        return {f"model.{key}": path for key, path in own.items()}


def check_fits(config: Config) -> None:
    """Raises ValueError if weights would be kept in a form or a place where they cannot be trained, sharded or used."""
    model = config.model
    if model.offload:
        _check_offload(config)
    if model.quantize is not None and config.tune.mode == "full":
        raise ValueError(
            f"model.quantize={model.quantize} is for a frozen base, and tune.mode=full trains it; set tune.mode=lora, "
            "or leave model.quantize out"
        )
    if model.quantize is not None and config.loop.sharded:
        raise ValueError(
            f"model.quantize={model.quantize} does not support loop.sharded=true, which cuts plain weights; use one of "
            "them"
        )
    if model.quantize_text is not None and model.spec.unet:
        raise ValueError(
            f"model.quantize_text={model.quantize_text} has no effect for {model.family}, whose text encoders are "
            "small CLIPs; leave it out"
        )


def _check_kept(config: Config) -> None:
    """Raises ValueError if what the reference gives for a draw is not the same whenever that draw comes again."""
    method, loop = config.method, config.loop
    name = f"method.name={method.name}"
    anew = method.spec.counterpart == "generated" and method.sampled_from != "initial"
    cures = {
        f"{name} has no reference": (method.strategy is None, "leave it out"),
        f"{name} needs the reference's prediction itself, which is not kept": (method.needs_prediction, "leave it out"),
        f"loop.judge={loop.judge} chooses among other samples in every iteration": (
            loop.judge is not None, "leave it out",
        ),
        f"the reference of {name} moves (reference={method.strategy})": (
            method.strategy != "initial",
            "set method.reference=initial" if "reference" in vars(method) else "leave it out",
        ),
        f"the samples of method.sampled_from={method.sampled_from} are others in every iteration": (
            anew, "set method.sampled_from=initial",
        ),
    }  # fmt: skip
    for reason, (holds, cure) in cures.items():
        if holds:
            raise ValueError(
                f"loop.reference_draws={loop.reference_draws} keeps what a reference that never moves gives, and "
                f"{reason}; {cure}" + ("" if cure == "leave it out" else ", or leave it out")
            )


def _check_repeated(config: Config) -> None:
    """Raises ValueError if the reference's samples of an item are not such that they can come again."""
    method, loop = config.method, config.loop
    cures = {
        f"method.name={method.name} draws none": (method.spec.counterpart != "generated", "leave it out"),
        f"loop.judge={loop.judge} chooses among other samples in every iteration": (
            loop.judge is not None, "leave it out",
        ),
        f"those of method.name={method.name} are drawn by a model that moves ({method.sampled_from})": (
            method.sampled_from != "initial", "leave it out, or let the base draw them, if the method has a key for it",
        ),
        f"loop.reference_draws={loop.reference_draws} lets them come again too": (
            loop.reference_draws is not None, "leave one of them out",
        ),
    }  # fmt: skip
    for reason, (holds, cure) in cures.items():
        if holds:
            name = f"reference_samples.repeat_after={config.reference_samples.repeat_after}"
            raise ValueError(f"{name} lets own samples come again, and {reason}; {cure}")


def _check_used(config: Config) -> None:
    """Raises ValueError if one sample of the reference cannot serve several pairs of its iteration."""
    method, loop, samples = config.method, config.loop, config.reference_samples
    uses, name = samples.uses, f"reference_samples.uses={samples.uses}"
    cures = {
        f"method.name={method.name} draws none": (method.spec.counterpart != "generated", "leave it out"),
        f"loop.judge={loop.judge} chooses a winner for every pair anew": (loop.judge is not None, "leave it out"),
        f"loop.reference_draws={loop.reference_draws} lets them come again with all of their draws": (
            loop.reference_draws is not None, "leave one of them out",
        ),
        f"reference_samples.repeat_after={samples.repeat_after} lets them come again in later epochs": (
            samples.repeat_after is not None, "leave one of them out",
        ),
    }  # fmt: skip
    for reason, (holds, cure) in cures.items():
        if holds:
            raise ValueError(f"{name} uses each own sample in several pairs of an iteration, and {reason}; {cure}")
    size = loop.updates_per_iteration * loop.batch_size
    if size % uses:
        least = next(count for count in range(min(uses, size), 0, -1) if size % count == 0)
        raise ValueError(
            f"{name} does not divide the {size} pairs of an iteration (loop.updates_per_iteration="
            f"{loop.updates_per_iteration} x loop.batch_size={loop.batch_size}), so that not all samples would be met "
            f"as often; use {least}, or make loop.updates_per_iteration a multiple of {uses}"
        )


def _check_offload(config: Config) -> None:
    cures = {
        f"tune.mode={config.tune.mode} trains the base": (config.tune.mode == "full", "set tune.mode=lora"),
        f"the UNet of {config.model.family} has no blocks that are recomputed whole": (
            config.model.spec.unet, "use model.quantize",
        ),
        "the backward pass would keep the weights of all blocks": (
            not config.loop.gradient_checkpointing, "set loop.gradient_checkpointing=true",
        ),
        f"loop.checkpointing_share={config.loop.checkpointing_share} keeps the weights of the other blocks": (
            config.loop.checkpointing_share != 1, "recompute all",
        ),
        "model.quantize=int8 keeps a second name of every matrix, which would not move": (
            config.model.quantize == "int8", "use int8wo or nf4",
        ),
        "loop.sharded=true places the blocks itself": (config.loop.sharded, "use one of them"),
    }  # fmt: skip
    for reason, (holds, cure) in cures.items():
        if holds:
            raise ValueError(f"model.offload=true cannot work here: {reason}; {cure}, or leave it out")


def check_supervision(config: Config) -> None:
    """Raises ValueError if `prepare` would cache what the method does not learn from."""
    method, given = config.method, config.data.supervision
    if not method.spec.learns_from(given):
        raise ValueError(
            f"method.name={method.name} learns from {method.spec.supervision}, not from what data.supervision={given} "
            f"caches; set data.supervision={method.spec.supervision}"
        )


def _check_flow_solvers(config: Config) -> None:
    for section, name in [
        ("reference_samples", config.reference_samples.scheduler),
        ("preview", config.preview.scheduler),
    ]:
        if name != "default":
            raise ValueError(
                f"{section}.scheduler={name} is for diffusion models; {config.model.family} is a flow and needs default"
            )
