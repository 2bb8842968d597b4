"""The base of image scorers: images and prompts in, one number per image out, with a fingerprint of the scorer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from seppo_core.io.hashing import sha256_file, sha256_json
from seppo_core.judging.preprocess import Images, as_pictures


class Scorer(ABC):
    """A frozen judge of images; more is better.

    `model` holds every network of the judge, `files` are the files that its numbers depend on (they are hashed for the
    fingerprint), `options` what else they depend on. Each subclass has a `load` that takes `weights=` as a file, a
    folder or a hub id, and never unpickles.
    """

    name: ClassVar[str]
    """Stem of the column's name; a scorer with conventions or versions adds them in `column`."""
    revision: ClassVar[int] = 1
    """Raised whenever a change here changes the numbers, so that cached scores are not mistaken for new ones."""
    token_limit: int | None = None
    """How many tokens of a prompt are read, start and end marks included; None if the prompt is not read."""

    def __init__(
        self,
        model: nn.Module,
        files: Sequence[Path],
        options: dict[str, str | float | bool],
        batch_size: int = 8,
    ):
        self.model = model.eval().requires_grad_(False)
        self.files = {path.name: sha256_file(path) for path in files}
        self.options = options
        self.batch_size = batch_size

    @property
    def column(self) -> str:
        """Name of the scorer's column in tables; tells its versions and conventions apart."""
        return self.name

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def to(self, device: str | torch.device) -> "Scorer":
        """Moves the networks, so that a caller can keep one scorer at a time on a small device."""
        self.model.to(device)
        return self

    def score(self, images: Images, prompts: Sequence[str]) -> Float[Tensor, " n"]:
        """One number per image, float32 on the CPU, in the order of `images`.

        `images` are pictures of any sizes, or a tensor (n, 3, h, w), uint8 or floating point in [0, 1]. Raises
        ValueError if there are not as many prompts as images, or a score is not finite.
        """
        pictures = as_pictures(images)
        if len(pictures) != len(prompts):
            raise ValueError(f"{len(pictures)} images and {len(prompts)} prompts; give one prompt per image")
        scores = torch.zeros(len(pictures))
        with torch.no_grad():
            for start in range(0, len(pictures), self.batch_size):
                part = slice(start, start + self.batch_size)
                scores[part] = self.score_batch(pictures[part], list(prompts[part])).float().cpu()
        if not scores.isfinite().all():
            broken = (~scores.isfinite()).nonzero().flatten().tolist()
            raise ValueError(f"{self.column} is not finite for images {broken[:5]}; load it with dtype=torch.float32")
        return scores

    @abstractmethod
    def score_batch(self, images: list[Image.Image], prompts: list[str]) -> Float[Tensor, " n"]:
        """Scores of at most `batch_size` images, on any device and in any floating point type."""

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Length of each prompt in the scorer's own tokens, with start and end marks, before anything is cut off."""
        return [0] * len(prompts)

    def truncated(self, prompts: Sequence[str]) -> list[int]:
        """Indices of the prompts whose end the scorer does not read."""
        if self.token_limit is None:
            return []
        return [index for index, length in enumerate(self.count_tokens(prompts)) if length > self.token_limit]

    def describe(self) -> dict[str, object]:
        """Everything that the numbers depend on except library versions and device; the fingerprint is its hash."""
        return {
            "scorer": self.name,
            "column": self.column,
            "revision": self.revision,
            "files": self.files,
            "options": self.options,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def fingerprint(self) -> str:
        """SHA-256 of `describe()`, in hexadecimal: the same weights, options and precision give the same one."""
        return sha256_json(self.describe())
