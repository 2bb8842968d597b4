"""Pixels to latents of unit variance and back, for the autoencoders of diffusers' image models; and how any
autoencoder can do with less memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from diffusers.configuration_utils import FrozenDict
from jaxtyping import Float
from torch import Tensor, nn

from seppo_core.models.latents import Posterior


class ImageVAE(Protocol):
    """The part of `AutoencoderKL` that is used here: its posterior, its decoder and its config."""

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


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Casts `module` if that changes anything; diffusers writes to the log at every call of `to`."""
    if module.dtype != dtype:
        module.to(dtype)


def tile_vae(vae: nn.Module) -> None:
    """Makes `vae` encode in overlapping tiles, blended: memory stops growing with the picture, and latents change a
    little. Raises ValueError if the autoencoder cannot."""
    # some inherit the method and raise, some lack it
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(f"{type(vae).__name__} cannot encode in tiles; set data.vae_tiling: false") from error


def slice_vae(vae: nn.Module) -> bool:
    """Makes `vae` encode a clip's frames one by one if they are pictures to it; False if nothing is gained.

    Changes nothing but rounding. An autoencoder of clips has one frame's latents depend on those before: what its
    slicing parts is a batch, and a batch of one clip has no parts.
    """
    if not hasattr(vae, "use_slicing") or vae.use_slicing or any(isinstance(m, nn.Conv3d) for m in vae.modules()):
        return False
    vae.enable_slicing()
    return True


@contextmanager
def vae_on_cpu(vae: nn.Module) -> Iterator[None]:
    """Keeps `vae` on the CPU inside, in float32, which not all of its kernels can do without.

    Changes nothing but rounding, and takes many times as long.
    """
    device, dtypes = vae.device, [tensor.dtype for tensor in _tensors(vae)]
    # diffusers' own `to` writes to the log whenever it is given a dtype
    nn.Module.to(vae, "cpu", torch.float32)
    try:
        yield
    finally:
        vae.to(device)
        for tensor, dtype in zip(_tensors(vae), dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
