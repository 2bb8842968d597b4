"""The schema of a video run: the shared sections, clips, and the video families."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from seppo_core.config.base_files import CONFIG, model_problems, read_json
from seppo_core.config.data import DataConfig
from seppo_core.config.model import ModelConfig
from seppo_core.config.schema import Config
from seppo_core.config.validators import above, at_least

Schedule = Literal["linear", "base"]


@dataclass(frozen=True, kw_only=True)
class VideoModel(ModelConfig):
    """The model that is aligned. Which keys it has depends on its family."""

    package: ClassVar[str] = "seppo_video.families"
    bases: ClassVar[Path] = Path(__file__).parent / "bases"

    family: str = "animatediff"
    fps: int = 8
    """Frames per second of the clips that are drawn."""

    def __post_init__(self):
        above("model", self, 0, "fps")


@dataclass(frozen=True, kw_only=True)
class MotionModel(VideoModel):
    """An image model with motion modules between its layers."""

    example: ClassVar[str]
    """A published motion adapter that goes with the family's bases."""

    motion_adapter: str | None = None
    """Motion modules, a hub id or a folder; null if the base folder has them already."""
    schedule: Schedule = "linear"
    """Noise schedule: the linear betas that motion was trained on, or what the base says."""

    def load_options(self) -> dict[str, bool | None]:
        return {"feature_extractor": None, "image_encoder": None}

    def replaced(self) -> set[str]:
        # the UNet of a saved pipeline has the motion in it
        return super().replaced() | {"motion_adapter"}

    def pipeline_problems(self, found: str) -> list[str]:
        problems = super().pipeline_problems(found)
        if found == self.spec.image_pipeline and self.motion_adapter is None:
            problems.append(f"it is an image model; name the motion_adapter to go with it, e.g. {self.example}")
        return problems

    def base_problems(self, folder: Path) -> list[str]:
        problems = super().base_problems(folder)
        motion = None if self.motion_adapter is None else Path(self.motion_adapter).expanduser()
        if motion is not None and motion.is_dir():
            of_it = model_problems(motion)
            if not problems and not of_it and folder.is_dir():
                of_it = motion_misfits(read_json(folder / "unet" / CONFIG), read_json(motion / CONFIG))
            problems += [f"motion_adapter={self.motion_adapter!r}: {problem}" for problem in of_it]
        return problems

    def parts(self) -> dict[str, str | None]:
        return super().parts() | {"motion_adapter": self.motion_adapter}


def motion_misfits(unet: Mapping[str, Any], motion: Mapping[str, Any]) -> list[str]:
    """How motion modules fit neither between the layers of a UNet nor in place of its motion, by their configs."""
    return [
        f"does not fit base: its {name} is {motion[name]} against {unet[name]}; name one made for this base"
        # a UNet without motion yet has no word on the last two
        for name in ("block_out_channels", "motion_max_seq_length", "use_motion_mid_block")
        if name in unet and name in motion and unet[name] != motion[name]
    ]


@dataclass(frozen=True, kw_only=True)
class VideoData(DataConfig):
    """The winners: a folder of captioned clips, encoded once by `prepare`."""

    height: int = 256
    """Height in pixels, after resize and centre crop."""
    width: int = 256
    """Width in pixels, after resize and centre crop."""
    frames: int = 16
    """Number of frames of every clip; shorter clips are rejected."""
    sampling: Literal["even", "window"] = "even"
    """Frames of a clip that are taken: spread evenly over the whole of it (even), or every `stride`-th from a drawn
    start (window)."""
    stride: int = 4
    """Step from one frame of a window to the next: 1 takes every frame. Even sampling has none."""
    reader: Literal["auto", "decord", "pyav"] = "auto"
    """Library that reads clips. Auto takes decord for clips of which it gives the same frames as PyAV, and PyAV for all
    others, which decord refuses. It belongs to the cache."""

    def __post_init__(self):
        super().__post_init__()
        at_least("data", self, 1, "frames", "stride")


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Config):
    """Everything that a video run depends on."""

    model: VideoModel
    data: VideoData
