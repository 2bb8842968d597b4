"""Clips to latents of unit variance and back, for causal video VAEs, whose frames depend on those before."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from diffusers.models import ModelMixin
from jaxtyping import Float
from torch import Tensor

from seppo_core.models.latents import Posterior


class Scaling(NamedTuple):
    """Latents of unit variance are (z − shift) · scale, z the autoencoder's own; numbers per channel, (c, 1, 1, 1)."""

    shift: Tensor
    scale: Tensor

    @classmethod
    def per_channel(cls, mean: list[float] | Tensor, std: list[float] | Tensor, factor: float = 1.0) -> "Scaling":
        """(z − mean) · factor / std."""
        mean, std = (torch.as_tensor(x, dtype=torch.float32).view(-1, 1, 1, 1) for x in (mean, std))
        return cls(mean, factor / std)

    @classmethod
    def uniform(cls, factor: float) -> "Scaling":
        """z · factor in all channels."""
        return cls(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), factor))


@torch.no_grad()
def encode_clips(vae: ModelMixin, pixels: Float[Tensor, "b 3 f h w"], scaling: Scaling) -> Posterior:
    """Encodes `pixels` in [-1, 1] into the posterior of latents as the denoiser sees them; float32.

    It encodes clip by clip and each as a whole, because a frame's latents depend on the frames before it. It encodes in
    tiles only if that was turned on (data.vae_tiling): the seams of tiles are in every winner, and in samples only if
    they are encoded too. Scaling changes log σ² by 2 log scale.
    """
    shift, scale = (x.to(vae.device) for x in scaling)
    means, logvars = [], []
    # an autocast around this would run a float32 VAE in half precision
    with torch.autocast(vae.device.type, enabled=False):
        for clip in pixels.split(1):
            posterior = vae.encode(clip.to(vae.device, vae.dtype)).latent_dist
            means.append((posterior.mean.float() - shift) * scale)
            logvars.append(posterior.logvar.float() + 2 * scale.log())
    return Posterior(torch.cat(means), torch.cat(logvars))


@torch.no_grad()
def decode_clips(
    vae: ModelMixin, latents: Float[Tensor, "b c f h w"], scaling: Scaling, *more: Tensor, tiled: bool = True
) -> Float[Tensor, "b 3 F H W"]:
    """Pixels of unit-variance latents, about [-1, 1]; float32, clip by clip, large ones in tiles if `tiled`.

    `more` are further arguments of the autoencoder's `decode`.
    """
    shift, scale = (x.to(vae.device) for x in scaling)
    with _tiles(vae) if tiled else nullcontext(), torch.autocast(vae.device.type, enabled=False):
        clips = [
            vae.decode((clip.to(vae.device).float() / scale + shift).to(vae.dtype), *more).sample.float()
            for clip in latents.split(1)
        ]
    return torch.cat(clips)


@contextmanager
def _tiles(vae: ModelMixin) -> Iterator[None]:
    # data.vae_tiling may have turned them on for good
    before = vae.use_tiling
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.use_tiling = before
