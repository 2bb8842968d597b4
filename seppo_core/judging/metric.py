"""The base of clip metrics: a name, the files and options that the numbers depend on, and a fingerprint of both."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seppo_core.io.hashing import sha256_file, sha256_json
from seppo_core.judging.video_pixels import Frames, same_shape

Options = dict[str, str | int | float | bool]


class Metric(ABC):
    """A frozen judge of clips. A clip is (f, 3, h, w), uint8 or floating point in [0, 1].

    `model` holds its networks (an empty module if it has none), `files` are hashed for the fingerprint, `options`
    are what else the numbers depend on.
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    """Raised whenever a change here changes the numbers, so that cached ones are not mistaken for new ones."""
    better: ClassVar[int] = 1
    """+1 if more is better, -1 if less is."""

    def __init__(self, model: nn.Module, files: Sequence[Path], options: Options):
        self.model = model.eval()
        # one by one: TorchScript modules have no requires_grad_ of their own
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.files = {path.name: sha256_file(path) for path in files}
        self.options = options
        self.device = torch.device("cpu")

    @property
    def column(self) -> str:
        """Name of the metric's column in tables, telling variants apart."""
        return self.name

    def to(self, device: str | torch.device) -> Self:
        """Moves the networks, so that a caller can keep one metric at a time on a small device."""
        self.device = torch.device(device)
        self.model.to(self.device)
        return self

    def describe(self) -> dict[str, object]:
        """Everything that the numbers depend on except library versions and device."""
        return {
            "metric": self.name,
            "column": self.column,
            "revision": self.revision,
            "files": self.files,
            "options": self.options,
        }

    def fingerprint(self) -> str:
        """SHA-256 over `describe()`; cached numbers with another fingerprint are other numbers."""
        return sha256_json(self.describe())


class PairedMetric(Metric):
    """Compares a clip with the real clip of the same prompt, frame i with frame i."""

    @torch.no_grad()
    def compare(self, frames: Frames, reference: Frames) -> Float[Tensor, " f"]:
        """One number per frame, on the CPU; the clip's score is their mean. ValueError for different shapes."""
        same_shape(frames, reference)
        return self.compare_frames(frames.to(self.device), reference.to(self.device)).float().cpu()

    @abstractmethod
    def compare_frames(self, frames: Frames, reference: Frames) -> Float[Tensor, " f"]: ...


class ClipMetric(Metric):
    """Judges one clip by itself or by its prompt."""

    @abstractmethod
    def measure(self, frames: Frames, prompt: str) -> dict[str, float]:
        """Columns and their values for one clip. ValueError if the clip has too few frames."""


class FeatureExtractor(Metric):
    """Turns a clip into feature rows, on which distances between sets of clips are computed (`set_metrics`)."""

    @torch.no_grad()
    def features(self, frames: Frames) -> Float[Tensor, "n d"]:
        """One row per frame or one for the clip, float32 on the CPU."""
        return self.extract(frames).float().cpu()

    @abstractmethod
    def extract(self, frames: Frames) -> Float[Tensor, "n d"]: ...
