"""The schema that images and videos share: every key, its default, and what it means.

The docstring under a field is what `--help` prints. `__post_init__` only checks values against each other; types are
checked while reading (`seppo_core.config_file`), paths by the command that reads them (`seppo_core.cli`). Neither torch
nor diffusers is imported here, so that `--help` answers at once.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

SchedulerName = Literal["default", "ddim", "pndm", "euler", "euler_ancestral", "dpm++", "unipc", "ddpm"]


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
    """Of the VAE, the text encoder and the weights under a LoRA. Full fine-tuning loads everything in float32."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The winners: a folder of captioned files, encoded once by `prepare`."""

    source: str
    """Folder of files with captions in metadata.jsonl or metadata.csv."""
    cache: str
    """Folder that `prepare` writes latents and text embeddings to and `train` reads."""
    height: int
    """In pixels, after resize and centre crop."""
    width: int
    """In pixels, after resize and centre crop."""
    flip: bool = False
    """Cache a mirrored copy too and pick one of the two at every use."""
    caption_dropout: float = 0.1
    """Share of captions replaced by the empty one, the same for a winner and its reference sample."""
    posterior: Literal["draw", "mode"] = "draw"
    """Whether a winner's latents are drawn from the VAE's posterior at every use, or are always its mode."""
    encode_batch_size: int = 8
    """Files that `prepare` encodes at once."""
    cache_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the cached tensors."""
    max_rejected_share: float = 0.5
    """`prepare` fails where more than this share of the files is unusable; rejected.jsonl lists them with reasons."""

    frames: ClassVar[int] = 1
    """Of an item; clips have a field of this name instead."""

    def __post_init__(self):
        _at_least("data", self, 1, "height", "width", "encode_batch_size")
        _share("data", self, "caption_dropout", "max_rejected_share")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """The objective."""

    name: Literal["seppo", "sft"] = "seppo"
    """seppo: semi-policy preference optimisation; sft: supervised fine-tuning on the winners alone."""
    beta: float = 2000
    """Strength of the preference term, on differences of mean errors. Diffusion-DPO's beta_dpo=5000 is 2500 here."""
    flipper: Literal["sign", "indicator", "off"] = "sign"
    """Use of samples of a reference that beats the policy: as winners, not at all, as losers (off: Diffusion-DPO)."""
    reference: Literal["random", "latest", "initial"] = "random"
    """Which snapshot is an iteration's reference: a uniform draw from all so far, the newest, or always the base."""
    noise: Literal["independent", "shared"] = "independent"
    """Whether a winner and its reference sample get two noises (the paper) or one (Diffusion-DPO's code)."""
    min_snr_gamma: float | None = None
    """Weight errors by min(SNR, gamma) / SNR, e.g. 5; null weights all timesteps alike."""
    timestep_density: Literal["uniform", "logit_normal"] = "uniform"
    """How training timesteps are drawn; logit_normal is for flow-matching models only."""
    timestep_shift: float = 1.0
    """Moves a flow-matching model's training timesteps towards noise; 1 does nothing."""

    def __post_init__(self):
        _above("method", self, 0, "beta", "min_snr_gamma", "timestep_shift")


@dataclass(frozen=True, kw_only=True)
class ReferenceSamplesConfig:
    """How the reference draws its samples, at the start of every iteration. sft draws none."""

    scheduler: SchedulerName = "default"
    """Solver; default is the model's own."""
    steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Classifier-free guidance; 1 turns it off."""
    batch_size: int = 8
    """Samples drawn at once by a process; changes speed and memory, not the samples."""
    reencode: bool = False
    """Decode samples and encode them again, as predecessors did, so that both halves carry the VAE's trace."""

    def __post_init__(self):
        _at_least("reference_samples", self, 1, "steps", "batch_size")
        _at_least("reference_samples", self, 0, "guidance_scale")


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
        _at_least("tune", self, 1, "rank")
        _above("tune", self, 0, "alpha")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Algorithm 1: per iteration, draw a reference, let it sample, update, take a snapshot."""

    iterations: int = 7
    """Times a reference is drawn."""
    updates: int = 30
    """Optimiser updates per iteration; every pair is used once."""
    batch_size: int = 2048
    """Pairs per update, over all processes and accumulation steps."""
    micro_batch_size: int = 1
    """Pairs in one forward pass of a process; the rest of batch_size is accumulated."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Autocast of policy and reference alike."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    attention: Literal["sdpa", "xformers"] = "sdpa"
    """Attention kernels; xformers needs CUDA and the extra `gpu`."""
    checkpoint_every: int = 30
    """Updates between checkpoints; the last update always makes one."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep; snapshots for the reference pool are kept apart, all of them."""

    def __post_init__(self):
        _at_least("loop", self, 1, "iterations", "updates", "batch_size", "micro_batch_size")
        _at_least("loop", self, 1, "checkpoint_every", "keep_checkpoints")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"loop.batch_size={self.batch_size} is not a multiple of "
                f"loop.micro_batch_size={self.micro_batch_size}; "
                f"use e.g. {max(1, self.batch_size // self.micro_batch_size) * self.micro_batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW; its moments, schedule and count run on through all iterations."""

    lr: float = 1e-5
    """Learning rate as it is applied. Code that multiplies by the batch size (`scale_lr`) quotes it before that."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the mean and of the square of the gradient."""
    eps: float = 1e-8
    """Added to the denominator of the step."""
    weight_decay: float = 0.01
    """Pull of the weights towards zero, decoupled from the gradient."""
    max_grad_norm: float | None = 1.0
    """Gradients are clipped to this norm; null does not clip."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After warm-up: stay, or decay to zero at the last update."""
    warmup_updates: int = 0
    """Updates over which the rate rises linearly from zero."""

    def __post_init__(self):
        _above("optimizer", self, 0, "lr", "eps", "max_grad_norm")
        _at_least("optimizer", self, 0, "weight_decay", "warmup_updates")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas={list(self.betas)} must lie in [0, 1); use e.g. [0.9, 0.999]")


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Sample grids of fixed prompts while training; also what `sample` does unless told otherwise."""

    prompts: tuple[str, ...] = ()
    """One row of the grid each."""
    every: int = 0
    """Updates between grids; 0 makes none."""
    per_prompt: int = 4
    """Samples per prompt."""
    seed: int = 0
    """Of the samples; the same at every grid."""
    scheduler: SchedulerName = "default"
    """Solver; default is the model's own."""
    steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Classifier-free guidance; 1 turns it off."""

    def __post_init__(self):
        _at_least("preview", self, 1, "per_prompt", "steps")
        _at_least("preview", self, 0, "every", "guidance_scale")
        if self.every and not self.prompts:
            raise ValueError(f"preview.every={self.every} asks for grids but preview.prompts is empty; add a prompt")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run depends on; images and videos extend it."""

    run: str
    """Output folder: checkpoints, metrics, previews, this config. The same command continues a stopped run."""
    seed: int = 0
    """Of data order, noise, timesteps and the reference's draws; with one seed any number of processes agrees."""
    model: ModelConfig
    data: DataConfig
    method: MethodConfig = field(default_factory=MethodConfig)
    reference_samples: ReferenceSamplesConfig = field(default_factory=ReferenceSamplesConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    preview: PreviewConfig = field(default_factory=PreviewConfig)

    export_kinds: ClassVar[tuple[str, ...]] = ("lora", "full")
    """What `export` can write for this kind of model."""

    def __post_init__(self):
        total = self.loop.iterations * self.loop.updates
        if self.optimizer.warmup_updates >= total:
            raise ValueError(
                f"optimizer.warmup_updates={self.optimizer.warmup_updates} leaves nothing of the run's {total} updates "
                f"(loop.iterations x loop.updates); use at most {total - 1}"
            )
        if self.method.name == "seppo" and self.method.reference == "latest" and self.loop.updates == 1:
            raise ValueError(
                "loop.updates=1 with method.reference=latest makes policy and reference the same weights at every "
                "update, so that every s is a tie; use loop.updates of 2 or more"
            )

    def weight_paths(self) -> dict[str, str | None]:
        """By key: what is loaded from the hub or from a local folder."""
        return {"model.base": self.model.base, "model.vae": self.model.vae, "model.lora": self.model.lora}


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """Options of `sample`."""

    prompts: tuple[str, ...] = ()
    """What to draw; without prompts and prompt_file, preview.prompts."""
    prompt_file: str | None = None
    """Text file with a prompt per line."""
    seeds: tuple[int, ...] = (0,)
    """Every prompt is drawn once with each seed."""
    checkpoint: str = "latest"
    """latest, base (before alignment), a number of updates, or a checkpoint folder."""
    out: str | None = None
    """Folder for the files; None is a folder under the run, named after the checkpoint."""
    scheduler: SchedulerName | None = None
    """Solver; None takes preview.scheduler."""
    steps: int | None = None
    """Denoising steps; None takes preview.steps."""
    guidance_scale: float | None = None
    """Classifier-free guidance; None takes preview.guidance_scale."""
    batch_size: int = 4
    """Drawn at once."""
    lossless: bool = False
    """Write clips exact to the bit (FFV1, .mkv), for measuring; otherwise as H.264, which everything plays."""

    def __post_init__(self):
        if self.prompts and self.prompt_file:
            raise ValueError("--prompts and --prompt_file are both given; use one of them")
        if not self.seeds:
            raise ValueError("--seeds is empty; give at least one, e.g. --seeds 0")
        for name, value, least in [
            ("steps", self.steps, 1),
            ("guidance_scale", self.guidance_scale, 0),
            ("batch_size", self.batch_size, 1),
        ]:
            if value is not None and value < least:
                raise ValueError(f"--{name} {value} must be at least {least}")


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Options of `export`."""

    kind: Literal["lora", "full", "motion"] | None = None
    """LoRA file, whole pipeline (a LoRA merged in), or MotionAdapter (video); None is lora or full, as trained."""
    checkpoint: str = "latest"
    """latest, a number of updates, or a checkpoint folder."""
    out: str | None = None
    """Folder to write; None is a folder under the run, named after the kind."""


def check_export(config: Config, request: ExportRequest) -> None:
    """ValueError where this run cannot be exported as that kind."""
    if request.kind is not None and request.kind not in config.export_kinds:
        raise ValueError(f"--kind {request.kind} does not exist for this model; use {' or '.join(config.export_kinds)}")
    if request.kind == "lora" and config.tune.mode == "full":
        raise ValueError("--kind lora needs a run with tune.mode=lora, this one trains the weights; use --kind full")


def _at_least(section: str, values, least: float, *names: str) -> None:
    for name in names:
        value = vars(values)[name]
        if value is not None and not value >= least:
            raise ValueError(f"{section}.{name}={value} must be at least {least}")


def _above(section: str, values, limit: float, *names: str) -> None:
    for name in names:
        value = vars(values)[name]
        if value is not None and not value > limit:
            raise ValueError(f"{section}.{name}={value} must be greater than {limit}")


def _share(section: str, values, *names: str) -> None:
    for name in names:
        value = vars(values)[name]
        if not 0 <= value <= 1:
            raise ValueError(f"{section}.{name}={value} is a share; it must lie in 0 to 1")
