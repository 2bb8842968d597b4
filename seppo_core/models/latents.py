"""What passes between an adapter and the rest: conditions, latents before their draw, and how an item was cropped."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

Condition = dict[str, Tensor]
"""What the denoiser is told besides x_t and t: named tensors, each batch-first, (b, ...)."""

MASKED_TEXT: Mapping[str, str] = MappingProxyType({"text": "mask"})
"""Of families whose denoiser looks at no more of "text" than "mask" marks (see `Adapter.masked_text`)."""


class Posterior(NamedTuple):
    """The VAE's Gaussian over unit-variance latents: `mean` and `logvar`, each (b, c, [f], h, w), float32."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Latents for unit normal `noise` of the posterior's shape; zero noise gives the mode."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class CropInfo(NamedTuple):
    """How an item's pixels were cut out of its file: size before the crop, where the crop begins, size after it."""

    original_height: int
    original_width: int
    top: int
    left: int
    height: int
    width: int
