"""The schema of a video run: the shared sections, clips, and the video families."""

from dataclasses import dataclass, field
from typing import Literal

from seppo_core.config.data import DataConfig
from seppo_core.config.method import check_flow, check_not_flow
from seppo_core.config.schema import Config, ModelConfig, TuneConfig, check_flow_solvers

FLOWS = ("hunyuan", "ltx", "wan")
"""Families that are trained by flow matching."""
MOTION = ("animatediff", "animatediff-sdxl")
"""Families with motion modules, that can be trained and exported alone."""
KEYS = {
    "animatediff": {"motion_adapter": None, "schedule": "linear"},
    "animatediff-sdxl": {"motion_adapter": None, "schedule": "linear"},
    "hunyuan": {"text_tokens": 256, "training_guidance": 6.0},
    "ltx": {"text_tokens": 128, "fps": 25},
    "wan": {"text_tokens": 512, "flow_shift": None},
}
"""Keys of `model` that tell some families' adapters more, and what null stands for."""
PLAYBACK_FPS = {"animatediff": 8, "animatediff-sdxl": 8, "cogvideox": 8, "hunyuan": 24, "ltx": 25, "wan": 16}
"""What a family's clips are shown at; that of its training."""


@dataclass(frozen=True, kw_only=True)
class VideoModel(ModelConfig):
    """What is aligned."""

    family: Literal["animatediff", "animatediff-sdxl", "cogvideox", "hunyuan", "ltx", "wan"] = "animatediff"
    """animatediff: Stable Diffusion 1.x with a motion adapter; animatediff-sdxl: the same on Stable Diffusion XL;
    cogvideox: 2b, 5b and 1.5; hunyuan; ltx; wan: 2.1."""
    motion_adapter: str | None = None
    """animatediff and -sdxl: motion modules, a hub id or a folder; null where the base folder has them already."""
    schedule: Literal["linear", "base"] = "linear"
    """animatediff and -sdxl: noise schedule, the linear betas that motion was trained on, or what the base says."""
    text_tokens: int | None = None
    """Tokens per caption; null is 128 for ltx, 256 for hunyuan, 512 for wan."""
    flow_shift: float | None = None
    """wan: how far its sampler leans to noise, 3 for 480p and 5 for 720p; null is what the base says."""
    training_guidance: float | None = None
    """hunyuan: guidance that the denoiser is told while it is trained; null is 6, what it is sampled at."""
    fps: int | None = None
    """Frames a second of clips that are drawn, and what ltx is told of time; null is what the family was trained at:
    8 for animatediff(-sdxl) and cogvideox (its 1.5: set 16), 16 for wan, 24 for hunyuan, 25 for ltx."""

    def __post_init__(self):
        for name in ("motion_adapter", "schedule", "text_tokens", "flow_shift", "training_guidance"):
            value = vars(self)[name]
            chosen = value != ("linear" if name == "schedule" else None)
            if chosen and name not in KEYS.get(self.family, {}):
                families = ", ".join(family for family, keys in KEYS.items() if name in keys)
                raise ValueError(f"model.{name}={value} is for {families}, not for {self.family}; leave it out")
        if self.text_tokens is not None and not 1 <= self.text_tokens <= 512:
            raise ValueError(f"model.text_tokens={self.text_tokens} must lie in 1 to 512, the most that a family knows")
        if self.training_guidance is not None and not self.training_guidance >= 0:
            raise ValueError(f"model.training_guidance={self.training_guidance} must be at least 0")
        for name in ("flow_shift", "fps"):
            value = vars(self)[name]
            if value is not None and not value > 0:
                raise ValueError(f"model.{name}={value} must be above 0")

    def family_keys(self) -> dict[str, int | float | str | None]:
        """The keys that this family's adapter takes beside the common ones, with their values."""
        defaults = KEYS.get(self.family, {})
        return {name: default if vars(self)[name] is None else vars(self)[name] for name, default in defaults.items()}

    @property
    def playback_fps(self) -> int:
        return PLAYBACK_FPS[self.family] if self.fps is None else self.fps


@dataclass(frozen=True, kw_only=True)
class VideoData(DataConfig):
    """The winners: a folder of captioned clips, encoded once by `prepare`."""

    height: int = 256
    """In pixels, after resize and centre crop."""
    width: int = 256
    """In pixels, after resize and centre crop."""
    frames: int = 16
    """Of every clip; shorter ones are rejected."""
    sampling: Literal["even", "window"] = "even"
    """Frames spread evenly over the whole clip, or consecutive at a stride from a random start."""
    stride: int = 4
    """Between the frames of a window; even sampling has none."""
    reader: Literal["auto", "decord", "pyav"] = "auto"
    """Both give the same frames; auto takes decord where it is installed."""

    def __post_init__(self):
        super().__post_init__()
        for name, value in [("frames", self.frames), ("stride", self.stride)]:
            if value < 1:
                raise ValueError(f"data.{name}={value} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class VideoTune(TuneConfig):
    """Which weights are trained."""

    scope: Literal["all", "motion", "spatial"] = "all"
    """The whole denoiser, its motion modules alone, or all but those."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Config):
    """Everything that a video run depends on."""

    model: VideoModel
    data: VideoData
    tune: VideoTune = field(default_factory=VideoTune)

    def __post_init__(self):
        super().__post_init__()
        family = self.model.family
        if family not in MOTION and self.tune.scope != "all":
            raise ValueError(
                f"tune.scope={self.tune.scope} is for {', '.join(MOTION)}; {family} has no motion modules, use all"
            )
        if family in FLOWS:
            check_flow(self.method, family)
            check_flow_solvers(self, family)
        else:
            check_not_flow(self.method, family)

    @property
    def export_kinds(self) -> tuple[str, ...]:
        return ("lora", "full", "motion") if self.model.family in MOTION else ("lora", "full")

    def weight_paths(self) -> dict[str, str | None]:
        return super().weight_paths() | {"model.motion_adapter": self.model.motion_adapter}
