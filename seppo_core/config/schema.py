"""The schema that images and videos share: every key, its default, and what it means.

The docstring under a field is what `--help` prints. `__post_init__` only checks values against each other; types are
checked while reading (`seppo_core.config.loader`), paths by the command that reads them (`seppo_core.cli`). Neither
torch nor diffusers is imported here, so that `--help` answers at once.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from seppo_core.config.data import DataConfig
from seppo_core.config.method import AnchoredConfig, MethodConfig, ReferenceSamplesConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.monitoring import HealthConfig, LogConfig
from seppo_core.config.training import LoopConfig, OptimizerConfig, PreviewConfig
from seppo_core.config.validators import above, at_least


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What is aligned."""

    base: str
    """Base model or fine-tune to start from: a hub id or a local diffusers folder."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    variant: str | None = None
    """Weight files to load where a model has several, e.g. fp16."""
    vae: str | None = None
    """VAE to use in place of the base's own: a hub id or a local folder."""
    lora: str | None = None
    """Existing LoRA to start from: a hub id, a folder or a file."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the VAE, the text encoder and the weights under a LoRA; VAEs that overflow stay in float32. Full fine-tuning
    trains in float32, and `prepare` encodes in this for it too."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Which weights are trained."""

    mode: Literal["full", "lora"] = "full"
    """The weights themselves, or a LoRA on the attention projections."""
    scope: Literal["all"] = "all"
    """Which modules."""
    rank: int = 16
    """Of the LoRA's matrices."""
    alpha: float | None = None
    """Of the LoRA, whose output is scaled by alpha / rank; null takes the rank."""

    def __post_init__(self):
        at_least("tune", self, 1, "rank")
        above("tune", self, 0, "alpha")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run depends on; images and videos extend it."""

    run: str
    """Output folder: checkpoints, metrics, previews, this config. The same command continues a stopped run."""
    seed: int = 0
    """Of data order, noise, timesteps and the reference's draws; with one seed any number of processes agrees."""
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

    export_kinds: ClassVar[tuple[str, ...]] = ("lora", "full")
    """What `export` can write for this kind of model."""

    def __post_init__(self):
        total = self.loop.iterations * self.loop.updates_per_iteration
        if self.optimizer.warmup_updates >= total:
            raise ValueError(
                f"optimizer.warmup_updates={self.optimizer.warmup_updates} leaves nothing of the run's {total} updates "
                f"(loop.iterations x loop.updates_per_iteration); use at most {total - 1}"
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
        if self.loop.sharded and self.optimizer.name == "adamw8bit":
            raise ValueError(
                "optimizer.name=adamw8bit does not know the shards of loop.sharded=true; use adamw, or do not shard"
            )
        if self.loop.offload_reference and (self.tune.mode == "lora" or not self.method.spec.uses_reference):
            raise ValueError(
                f"loop.offload_reference=true has nothing to move with tune.mode={self.tune.mode} and method.name="
                f"{self.method.name}: it is for references with weights of their own; leave it out"
            )

    def weight_paths(self) -> dict[str, str | None]:
        """By key: what is loaded from the hub or from a local folder."""
        return {"model.base": self.model.base, "model.vae": self.model.vae, "model.lora": self.model.lora}


def check_supervision(config: Config) -> None:
    """Raises ValueError if `prepare` would cache what the method does not learn from."""
    method, given = config.method, config.data.supervision
    if not method.spec.learns_from(given):
        raise ValueError(
            f"method.name={method.name} learns from {method.spec.supervision}, not from what data.supervision={given} "
            f"caches; set data.supervision={method.spec.supervision}"
        )


def check_flow_solvers(config: Config, family: str) -> None:
    """Raises ValueError if a solver of diffusion models is named for `family`, a flow-matching model."""
    for section, name in [
        ("reference_samples", config.reference_samples.scheduler),
        ("preview", config.preview.scheduler),
    ]:
        if name != "default":
            raise ValueError(f"{section}.scheduler={name} solves diffusions; {family} is a flow and needs default")
