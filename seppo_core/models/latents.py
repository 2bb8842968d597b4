"""The types that adapters exchange with the rest: conditions, posteriors of latents, and crops."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

Condition = dict[str, Tensor]
"""The denoiser's inputs besides x_t and t: named tensors, each batch-first, (b, ...)."""

MASKED_TEXT: Mapping[str, str] = MappingProxyType({"text": "mask"})
"""Value of `Adapter.masked_text` for denoisers that read "text" only as far as "mask" says."""


class Posterior(NamedTuple):
    """The VAE's Gaussian over unit-variance latents: `mean` and `logvar`, each (b, c, [f], h, w), float32."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Returns latents for unit normal `noise` of the posterior's shape; zero noise gives the mode."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class CropInfo(NamedTuple):
    """Position of an item's pixels in its file: size before the crop, corner of the crop, size after it; in pixels."""

    original_height: int
    original_width: int
    top: int
    left: int
    height: int
    width: int
