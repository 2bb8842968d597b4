"""Checks of models, sizes and frames that all families share. Each raises ValueError with the cure."""

from diffusers import AutoencoderTiny
from diffusers.models import ModelMixin
from torch import nn

from seppo_core.config.geometry import DISTILLED, channels_problem, frames_problem, positions_problem, size_problem


def check_channels(vae: ModelMixin, denoiser: nn.Module, packed: int = 1, variance: bool = False) -> None:
    """Raises ValueError unless the denoiser takes and gives the VAE's latents, `packed` of them in a token.

    Some configs count what is given before it is packed. With `variance` it may give as many channels again behind
    them: a variance that it has learnt. A VAE without a posterior is refused too, and so is a denoiser that was
    distilled with embedded guidance (LCM).
    """
    if isinstance(vae, AutoencoderTiny):
        raise ValueError(f"{type(vae).__name__} has no posterior to draw latents from; use an AutoencoderKL as `vae`")
    channels = latent_channels(vae) * packed
    taken, given = denoiser.config.in_channels, denoiser.config.out_channels or denoiser.config.in_channels
    fitting = {channels, channels // packed, *([2 * channels] if variance else [])}
    if taken != channels or given not in fitting:
        raise ValueError(channels_problem(taken, given, channels))
    if denoiser.config.get("time_cond_proj_dim") is not None:
        raise ValueError(DISTILLED)


def check_unnormalised(vae: ModelMixin) -> None:
    """Raises ValueError for a VAE of Playground 2.5, which loads as one of SDXL."""
    if vae.config.latents_mean is not None:
        raise ValueError("this VAE normalises each channel by itself (Playground 2.5); use an SDXL one as `vae`")


def check_size(height: int, width: int, factor: int) -> None:
    """Raises ValueError, with the nearest size that fits, unless both are positive multiples of `factor` pixels."""
    _refuse(size_problem(height, width, factor))


def check_frames(frames: int, step: int) -> None:
    """Raises ValueError, with the nearest count that fits, unless `frames` are one and a multiple of `step`."""
    _refuse(frames_problem(frames, step))


def check_positions(frames: int, limit: int) -> None:
    """Raises ValueError for clips that are longer than the `limit` positions that motion modules know."""
    _refuse(positions_problem(frames, limit))


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise ValueError(problem)


def latent_channels(vae: ModelMixin) -> int:
    """Returns the number of channels of the VAE's latents, which Wan's config calls by another name."""
    return vae.config["z_dim" if "z_dim" in vae.config else "latent_channels"]
