"""Pixels to latents of unit variance and back, for the autoencoders that diffusers' image models share."""

import math
from typing import Protocol

import torch
from diffusers.configuration_utils import FrozenDict
from jaxtyping import Float
from torch import Tensor, nn

from seppo_core.models.adapter import Posterior


class ImageVAE(Protocol):
    """What is used of `AutoencoderKL`: its posterior, its decoder and its config."""

    config: FrozenDict
    dtype: torch.dtype
    device: torch.device

    def encode(self, x: Tensor): ...

    def decode(self, z: Tensor): ...


@torch.no_grad()
def encode_images(vae: ImageVAE, pixels: Float[Tensor, "b 3 h w"], chunk: int = 16) -> Posterior:
    """The posterior of `pixels` in [-1, 1], shifted and scaled as the denoiser sees latents; float32, `chunk` a time.

    With z the autoencoder's own latent, latents are (z − shift) · scale, so that log σ² moves by 2 log scale.
    """
    shift, scale = _shift_and_scale(vae)
    means, logvars = [], []
    # an autocast around this would run a float32 VAE in half precision, which overflows with some of them
    with torch.autocast(vae.device.type, enabled=False):
        for part in pixels.split(chunk):
            posterior = vae.encode(part.to(vae.device, vae.dtype)).latent_dist
            means.append((posterior.mean.float() - shift) * scale)
            logvars.append(posterior.logvar.float() + 2 * math.log(scale))
    return Posterior(torch.cat(means), torch.cat(logvars))


@torch.no_grad()
def decode_images(vae: ImageVAE, latents: Float[Tensor, "b c h w"], chunk: int = 16) -> Float[Tensor, "b 3 H W"]:
    """Pixels of unit-variance latents, about [-1, 1] and not clamped; float32, `chunk` at a time."""
    shift, scale = _shift_and_scale(vae)
    with torch.autocast(vae.device.type, enabled=False):
        parts = [
            vae.decode((part.float() / scale + shift).to(vae.device, vae.dtype)).sample.float()
            for part in latents.split(chunk)
        ]
    return torch.cat(parts)


def _shift_and_scale(vae: ImageVAE) -> tuple[float, float]:
    # most configs have no shift, or say null
    return vae.config.get("shift_factor") or 0.0, vae.config["scaling_factor"]


def check_size(height: int, width: int, factor: int) -> None:
    """ValueError, with the nearest size that fits, unless both are positive multiples of `factor` pixels per latent."""
    fitting = [max(factor, (size + factor // 2) // factor * factor) for size in (height, width)]
    if [height, width] != fitting:
        raise ValueError(
            f"height × width = {height} × {width} does not fit a VAE that packs {factor} × {factor} pixels per latent; "
            f"use e.g. {fitting[0]} × {fitting[1]}"
        )


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """`module.to(dtype)` where that changes anything; diffusers writes to the log at every call."""
    if module.dtype != dtype:
        module.to(dtype)
