"""Options of the commands that are not part of the config. Imports no torch."""

from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from seppo_core.config.aliases import RENAMED
from seppo_core.config.gpus import GpuName
from seppo_core.config.messages import nearest
from seppo_core.config.method import SchedulerName
from seppo_core.config.method_specs import Ranking
from seppo_core.config.schema import Config


@dataclass(frozen=True, kw_only=True)
class PrepareRequest:
    """Options of `prepare`."""

    overwrite: bool = False
    """Replace a cache in data.cache that was made from other data, with another model or with other settings."""


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """Options of `verify`."""

    mend: bool = False
    """Delete the damaged shards, so that the next `prepare` encodes these again and nothing else."""


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """Options of `plan`."""

    gpu: GpuName = "a100"
    """GPU of the run; it decides whether the run fits and how long it takes."""
    gpus: int = 1
    """Number of GPUs, each with a process of its own."""
    utilisation: float = 0.35
    """Share of the peak speed of the GPU that the run is assumed to reach."""
    host_memory: float | None = None
    """Memory of the machine itself in GiB, which the processes of its GPUs share; null takes this machine's if it has
    such a GPU, and else checks nothing."""
    items: int | None = None
    """Number of winners; null counts those in data.cache or data.source, if they exist."""
    json: bool = False
    """Print all numbers as JSON, in bytes, FLOPs and hours."""
    fit: bool = False
    """Propose the cheapest settings with which the run fits the GPU, and plan with them. What is trained stays."""

    def __post_init__(self):
        for name, value in [("gpus", self.gpus), ("items", self.items)]:
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value} must be at least 1")
        if self.host_memory is not None and not 0 < self.host_memory < inf:
            raise ValueError(f"--host_memory {self.host_memory} must be above 0 GiB")
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"--utilisation {self.utilisation} is a share; it must lie in 0 to 1")


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Options of `train`."""

    accept_changes: tuple[str, ...] = ()
    """Differences from the start of the run to accept: config keys, or winners, version, model (the weights of the
    base). Without this option a run with differences is refused, and they are listed."""


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """Options of `sample`."""

    prompts: tuple[str, ...] = ()
    """Prompts to sample. The default is prompt_file or else preview.prompts."""
    prompt_file: str | None = None
    """Text file with one prompt per line."""
    seeds: tuple[int, ...] = (0,)
    """Random seeds; every prompt is sampled once with each."""
    checkpoint: str = "latest"
    """Checkpoint: latest, best (of those kept, by preview.judge), base (before alignment), a number of updates, a name
    such as snapshot-0002 (in the run's folder `pool`), or a path."""
    weights: Literal["policy", "ema"] | None = None
    """Weights of the policy as trained (policy), or their running average (ema); null takes the average if the run kept
    one."""
    out: str | None = None
    """Folder for the samples; null is a folder in the run, named after the checkpoint. Samples are added to those that
    are there, and none is overwritten."""
    scheduler: SchedulerName | None = None
    """Solver; null takes preview.scheduler."""
    steps: int | None = None
    """Number of denoising steps; null takes preview.steps."""
    guidance_scale: float | None = None
    """Scale of classifier-free guidance; null takes preview.guidance_scale."""
    batch_size: int = 4
    """Number of samples that are drawn at once."""
    lossless: bool = False
    """Write lossless clips (FFV1, .mkv), for metrics; otherwise H.264, which every player reads."""
    accept_changes: tuple[Literal["model"], ...] = ()
    """model: go on although the base, its VAE or its text encoder is not the one that the checkpoint was trained on."""

    def __post_init__(self):
        _check_drawing(self)
        if not self.seeds:
            raise ValueError("--seeds is empty; give at least one, e.g. --seeds 0")


@dataclass(frozen=True, kw_only=True)
class RankRequest:
    """Options of `rank`."""

    judge: str = ""
    """What scores the samples: a scorer such as hps_v2.1, module:function of pixels and prompts, or NAME=COMMAND of a
    judge that is a process."""
    column: str | None = None
    """Column that counts, for a process with several."""
    places: tuple[str, ...] = ()
    """Where a scorer's files are, as METRIC.PART=PLACE, e.g. pickscore.weights=/data/PickScore_v1."""
    supervision: Ranking = "winners"
    """Rows to write: the best sample of each prompt (winners), the best with the worst (pairs), or both as good and bad
    items (labels)."""
    samples: int = 4
    """Number of samples of each prompt."""
    min_gap: float = 0.0
    """Prompts whose best score is not above the worst by more than this are left out."""
    prompts: tuple[str, ...] = ()
    """Prompts to draw. The default is prompt_file or else preview.prompts."""
    prompt_file: str | None = None
    """Text file with one prompt per line."""
    first_seed: int = 0
    """The samples of a prompt have this seed and those that follow."""
    checkpoint: str = "base"
    """Checkpoint that is drawn from: base (before alignment), latest, best (of those kept, by preview.judge), a number
    of updates, a name such as snapshot-0002 (in the run's folder `pool`), or a path."""
    weights: Literal["policy", "ema"] | None = None
    """Weights of the policy as trained (policy), or their running average (ema); null takes the average if the run kept
    one."""
    out: str | None = None
    """Folder for samples and table, which data.source can name; null is the run's name with -ranked."""
    scheduler: SchedulerName | None = None
    """Solver; null takes preview.scheduler."""
    steps: int | None = None
    """Number of denoising steps; null takes preview.steps."""
    guidance_scale: float | None = None
    """Scale of classifier-free guidance; null takes preview.guidance_scale."""
    batch_size: int = 4
    """Number of samples that are drawn at once."""

    def __post_init__(self):
        _check_drawing(self)
        if self.samples < 2:
            raise ValueError(f"--samples {self.samples} must be at least 2: a preference is among several")
        if not self.min_gap >= 0:
            raise ValueError(f"--min_gap {self.min_gap} must be at least 0")


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """Options of `compare`. With any of the first six given, samples are drawn; else the runs' previews are shown, if
    they are of the same prompts and seeds."""

    prompts: tuple[str, ...] = ()
    """Prompts to draw. The default is prompt_file or else preview.prompts of the first run."""
    prompt_file: str | None = None
    """Text file with one prompt per line."""
    seeds: tuple[int, ...] = ()
    """Random seeds; every prompt is drawn once with each. The default is 0 to 3."""
    scheduler: SchedulerName | None = None
    """Solver, for all alike; null takes preview.scheduler of the first run."""
    steps: int | None = None
    """Number of denoising steps, for all alike; null takes preview.steps of the first run."""
    guidance_scale: float | None = None
    """Scale of classifier-free guidance, for all alike; null takes preview.guidance_scale of the first run."""
    out: str | None = None
    """Folder of the page; null is a folder beside the first run. The same command draws nothing anew."""
    batch_size: int = 4
    """Number of samples that are drawn at once."""

    def __post_init__(self):
        _check_drawing(self)

    @property
    def draws(self) -> bool:
        """Whether samples are to be drawn in any case."""
        given = (self.scheduler, self.steps, self.guidance_scale, self.prompt_file)
        return bool(self.prompts or self.seeds) or any(one is not None for one in given)


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Options of `export`."""

    kind: Literal["lora", "full", "motion"] | None = None
    """LoRA file (lora), whole pipeline with any LoRA merged in (full), or MotionAdapter of a video model (motion); null
    is lora or full, as the run was trained."""
    format: Literal["diffusers", "comfyui"] = "diffusers"
    """Whose names a LoRA's layers get: diffusers', or those that ComfyUI reads."""
    checkpoint: str = "latest"
    """Checkpoint: latest, best (of those kept, by preview.judge), base (before alignment), a number of updates, a name
    such as snapshot-0002 (in the run's folder `pool`), or a path."""
    weights: Literal["policy", "ema"] | None = None
    """Weights of the policy as trained (policy), or their running average (ema); null takes the average if the run kept
    one."""
    out: str | None = None
    """Folder to write; null is a folder in the run, named after kind and checkpoint."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of the weights of a whole pipeline; null leaves each as it is."""
    push: str | None = None
    """Model on the Hugging Face Hub, owner/name, to commit the export to; one that is not there is made, private. The
    token is that of HF_TOKEN or of `hf auth login`."""
    accept_changes: tuple[Literal["model"], ...] = ()
    """model: go on although the base, its VAE or its text encoder is not the one that the checkpoint was trained on."""


def _check_drawing(request: SampleRequest | RankRequest | CompareRequest) -> None:
    """ValueError for options that no sample can be drawn with."""
    if request.prompts and request.prompt_file:
        raise ValueError("--prompts and --prompt_file are both given; use one of them")
    for name, least in (("steps", 1), ("guidance_scale", 0), ("batch_size", 1)):
        value = vars(request)[name]
        if value is not None and not least <= value < inf:
            raise ValueError(f"--{name} {value} must be at least {least}")


OTHER_CHANGES = ("winners", "version", "model")
"""Names that `--accept_changes` takes in addition to config keys."""


def check_train(request: TrainRequest, keys: list[str]) -> TrainRequest:
    """`request` with the names that keys have now; ValueError if `accept_changes` names neither one of the config's
    `keys` nor one of OTHER_CHANGES."""
    names = tuple(RENAMED.get(name, name) for name in request.accept_changes)
    for name in names:
        if name not in (*keys, *OTHER_CHANGES):
            guess = nearest(name, [*keys, *OTHER_CHANGES])
            hint = f"did you mean {guess}?" if guess else f"use a config key, or one of {', '.join(OTHER_CHANGES)}"
            raise ValueError(f"--accept_changes {name}: unknown name; {hint}")
    return replace(request, accept_changes=names)


def check_export(config: Config, request: ExportRequest) -> None:
    """Raises ValueError if the run cannot be exported as that kind."""
    if request.kind is not None and request.kind not in config.export_kinds:
        raise ValueError(f"--kind {request.kind} does not exist for this model; use {' or '.join(config.export_kinds)}")
    if request.dtype is not None and (request.kind or ("lora" if config.tune.mode == "lora" else "full")) != "full":
        raise ValueError(f"--dtype {request.dtype} is for whole pipelines; use --kind full, or leave it out")
    if request.format == "comfyui":
        _check_comfyui(config, request)
    if request.kind == "lora" and config.tune.mode == "full":
        raise ValueError("--kind lora needs a run with tune.mode=lora, this one trains the weights; use --kind full")


def _check_comfyui(config: Config, request: ExportRequest) -> None:
    spec, family = config.model.spec, config.model.family
    if config.tune.mode == "full" or request.kind not in (None, "lora"):
        kind = request.kind or "full"
        raise ValueError(f"--format comfyui is for LoRAs, not for --kind {kind}; leave --format out")
    if spec.comfyui is None:
        raise ValueError(
            f"--format comfyui: ComfyUI has no LoRA format for {family}; leave it out, or use --kind full for a "
            "pipeline with the LoRA merged in"
        )
    if config.tune.scope not in spec.comfyui_scopes:
        raise ValueError(
            f"--format comfyui: a LoRA of tune.scope={config.tune.scope} has no single file there, one of tune.scope="
            f"{' or '.join(spec.comfyui_scopes)} has; leave it out"
        )
