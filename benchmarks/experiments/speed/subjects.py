"""What is measured: a base by its architecture, a size, and what of it is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import seppo_image.commands
import seppo_image.plan
import seppo_video.commands
import seppo_video.plan
from benchmarks.experiments.toy.task.bases import image_base, motion_adapter, video_base
from benchmarks.experiments.toy.task.render import FRAMES
from seppo_core.config.method import MethodConfig
from seppo_core.config.schema import Config, TuneConfig
from seppo_core.models.adapter import Adapter, Condition
from seppo_core.plan.architecture import pipeline_architecture
from seppo_image.config import ImageConfig, ImageData, ImageModel
from seppo_video.config import VideoConfig, VideoData, VideoModel, VideoTune

Modality = Literal["image", "video"]
Tune = Literal["full", "lora"]

FAMILIES = {"image": seppo_image.commands.FAMILIES, "video": seppo_video.commands.FAMILIES}
BASES = {"image": seppo_image.plan.BASES, "video": seppo_video.plan.BASES}
MOTION = {
    "StableDiffusionPipeline": ("animatediff", "guoyww/animatediff-motion-adapter-v1-5-3"),
    "StableDiffusionXLPipeline": ("animatediff-sdxl", "guoyww/animatediff-motion-adapter-sdxl-beta"),
}
"""Image bases that become one of clips: the family, and the motion modules unless others are named."""
STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
PIXELS = {"image": 512, "video": 256}
CLIP, CAUSAL_CLIP = 16, 17
"""Frames; the autoencoders of other families take one and then 4 or 8 at a time."""
TOY_PIXELS = 16
ON_CLIPS = ("methods", "parts", "checkpointing")
"""What tells of the small base of clips in the time that one has on a CPU; the rest is as it is with images."""


@dataclass(frozen=True)
class Subject:
    """One base at one size."""

    title: str
    modality: Modality
    family: str
    base: str
    """A hub id whose numbers are known without network, or a folder."""
    motion_adapter: str | None
    height: int
    width: int
    frames: int
    batch: int
    """Items, or pairs of them, in an update."""
    tune: Tune | None
    """None takes what fits: all weights of an image base, a LoRA of a base of clips."""
    rank: int = 16
    comparisons: tuple[str, ...] | None = None
    """What is run on it unless comparisons are asked for by name; None is all."""

    @property
    def size(self) -> str:
        clip = f"{self.frames} x " if self.modality == "video" else ""
        return f"{clip}{self.height} x {self.width}"

    @property
    def wanted_tune(self) -> Tune:
        """What is trained if it fits the memory."""
        return self.tune or ("full" if self.modality == "image" else "lora")

    def config(self, tune: Tune, dtype: str = "float32", **method: Any) -> Config:
        """As `train` would be given it, for a `method` by its fields."""
        common = {"run": "unused", "method": MethodConfig(**method)}
        size = {"source": "unused", "cache": "unused", "height": self.height, "width": self.width}
        if self.modality == "image":
            model = ImageModel(base=self.base, family=self.family, dtype=dtype)
            return ImageConfig(
                model=model, data=ImageData(**size), tune=TuneConfig(mode=tune, rank=self.rank), **common
            )
        model = VideoModel(base=self.base, family=self.family, motion_adapter=self.motion_adapter, dtype=dtype)
        data = VideoData(**size, frames=self.frames)
        return VideoConfig(model=model, data=data, tune=VideoTune(mode=tune, rank=self.rank), **common)

    def build(self, config: Config, dtype: torch.dtype) -> Adapter:
        """The adapter with its weights on the meta device, as `plan` has it."""
        build = {"image": seppo_image.plan.build, "video": seppo_video.plan.build}[self.modality]
        return build(config, dtype, FAMILIES[self.modality][self.family])

    @property
    def condition(self) -> Callable[[Adapter], Condition]:
        """Gives one caption's condition, (1, …) each, on the meta device."""
        return {"image": seppo_image.plan.condition, "video": seppo_video.plan.condition}[self.modality]


def find_subject(
    base: str,
    *,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    motion: str | None = None,
    tune: Tune | None = None,
    batch: int | None = None,
    rank: int = 16,
) -> Subject:
    """The subject of a hub id (its last part is enough) or a folder; what is None takes the family's usual value.

    An image base with `frames` gets motion modules. FileNotFoundError where nothing is known of `base`, ValueError
    where its pipeline is of no family here, or where a choice does not go with it.
    """
    name = _whole_name(base)
    pipeline, modality = _pipeline_of(name)
    if modality == "image" and (frames or motion):
        if pipeline not in MOTION:
            raise ValueError(f"--base {base} draws images and takes no motion modules; leave out --frames and --motion")
        family, usual = MOTION[pipeline]
        modality, motion = "video", motion or usual
    else:
        family = next(f for f, adapter in FAMILIES[modality].items() if _name_of(adapter) == pipeline)
        if motion and not family.startswith("animatediff"):
            raise ValueError(f"--motion {motion} is for AnimateDiff; {base} is of the family {family}")
    height = height or width or PIXELS[modality]
    length = CLIP if family.startswith("animatediff") else CAUSAL_CLIP
    clip = {"image": 1, "video": frames or length}[modality]
    title = Path(name).name if Path(name).is_dir() else name.rpartition("/")[2]
    title = f"{family} on {title}" if motion else title
    return Subject(
        title, modality, family, name, motion, height, width or height, clip,
        batch or {"image": 4, "video": 2}[modality], tune, rank,
    )  # fmt: skip


def default_subjects(cuda: bool, tune: Tune | None = None, batch: int | None = None, rank: int = 16) -> list[Subject]:
    """Images and clips: on CUDA Stable Diffusion 1.5 and AnimateDiff on it, elsewhere the two small bases in-tree."""
    if cuda:
        chosen = {"tune": tune, "batch": batch, "rank": rank}
        return [find_subject(STABLE_DIFFUSION, **chosen), find_subject(STABLE_DIFFUSION, frames=CLIP, **chosen)]
    images = Subject(
        "toy images", "image", "stable-diffusion", str(image_base()), None, TOY_PIXELS, TOY_PIXELS, 1,
        batch or 8, tune, rank,
    )  # fmt: skip
    clips = Subject(
        "toy clips", "video", "animatediff", str(video_base()), str(motion_adapter()), TOY_PIXELS, TOY_PIXELS, FRAMES,
        batch or 2, tune, rank, ON_CLIPS,
    )  # fmt: skip
    return [images, clips]


def known_bases() -> list[str]:
    """Hub ids that `find_subject` knows without network."""
    from seppo_core.plan.architecture import known

    return sorted({name for shipped in BASES.values() for name in known(shipped)})


def _whole_name(base: str) -> str:
    if "/" in base or Path(base).is_dir():
        return base
    return next((name for name in known_bases() if name.rpartition("/")[2].lower() == base.lower()), base)


def _pipeline_of(name: str) -> tuple[str, Modality]:
    """Class of the pipeline, and what its family draws."""
    for modality, shipped in BASES.items():
        try:
            found = pipeline_architecture(name, shipped).index["_class_name"]
        except FileNotFoundError:
            continue
        if any(_name_of(adapter) == found for adapter in FAMILIES[modality].values()):
            return found, modality
        if modality == "video":
            raise ValueError(f"--base {name} is a {found}, which is of no family here")
    raise FileNotFoundError(
        f"nothing is known of --base {name} without network; it takes {', '.join(known_bases())}, and folders of "
        "diffusers pipelines, of which it reads the *.json files alone"
    )


def _name_of(adapter: type[Adapter]) -> str:
    return adapter.__annotations__["pipeline"].__name__
