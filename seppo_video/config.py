"""The schema of a video run: the shared sections, clips, and the video families."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from seppo_core.config import Config, DataConfig, ModelConfig, TuneConfig
from seppo_core.config_checks import check_not_flow


@dataclass(frozen=True, kw_only=True)
class VideoModel(ModelConfig):
    """What is aligned."""

    family: Literal["animatediff"] = "animatediff"
    """animatediff: any Stable Diffusion 1.x base with a motion adapter."""
    motion_adapter: str | None = None
    """Motion modules: a hub id or a local folder; null where the base folder has them already."""
    schedule: Literal["linear", "base"] = "linear"
    """Noise schedule: the linear betas that AnimateDiff's motion modules were trained on, or what the base says."""


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

    export_kinds: ClassVar[tuple[str, ...]] = ("lora", "full", "motion")

    def __post_init__(self):
        super().__post_init__()
        check_not_flow(self.method, self.model.family)

    def weight_paths(self) -> dict[str, str | None]:
        return super().weight_paths() | {"model.motion_adapter": self.model.motion_adapter}
