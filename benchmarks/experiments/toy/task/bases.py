"""Where the two bases that ship with the repository lie.

Their folders are written by `benchmarks.experiments.toy.task.train_base`.
"""

from pathlib import Path

from seppo_core.toy.captions import Modality

FOLDER = Path(__file__).resolve().parent / "bases"
CHANNELS: dict[Modality, tuple[int, int]] = {"image": (48, 64), "video": (48, 64)}


def _found(name: str) -> Path:
    folder = FOLDER / name
    if not folder.is_dir():
        modality = "image" if name == "image" else "video"
        raise FileNotFoundError(
            f"{folder} is missing; train it with: python -m benchmarks.experiments.toy.task.train_base {modality}"
        )
    return folder


def image_base() -> Path:
    """A StableDiffusionPipeline folder whose VAE is `PatchVAE` (import it, or pass `vae=`)."""
    return _found("image")


def video_base() -> Path:
    """The picture half of the video base, also a StableDiffusionPipeline folder; pair it with `motion_adapter()`."""
    return _found("video")


def motion_adapter() -> Path:
    """The MotionAdapter folder that makes `video_base()` a model of clips."""
    return _found("motion")
