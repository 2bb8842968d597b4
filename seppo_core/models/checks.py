"""Checks of models, sizes and frames that all families share. Each raises ValueError with the cure."""

from diffusers import AutoencoderTiny
from diffusers.models import ModelMixin
from torch import nn


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
        raise ValueError(
            f"the denoiser takes {taken} and gives {given} channels, the VAE's latents have {channels}; inpainting, "
            "image-to-video, control and editing models are not supported, use a text-to-image or text-to-video base"
        )
    if denoiser.config.get("time_cond_proj_dim") is not None:
        raise ValueError("the denoiser is distilled with embedded guidance (LCM); use the base it was distilled from")


def check_unnormalised(vae: ModelMixin) -> None:
    """Raises ValueError for a VAE of Playground 2.5, which loads as one of SDXL."""
    if vae.config.latents_mean is not None:
        raise ValueError("this VAE normalises each channel by itself (Playground 2.5); use an SDXL one as `vae`")


def check_size(height: int, width: int, factor: int) -> None:
    """Raises ValueError, with the nearest size that fits, unless both are positive multiples of `factor` pixels."""
    fitting = [max(factor, (size + factor // 2) // factor * factor) for size in (height, width)]
    if [height, width] != fitting:
        raise ValueError(
            f"height × width = {height} × {width} does not fit a VAE that packs {factor} × {factor} pixels per latent; "
            f"use e.g. {fitting[0]} × {fitting[1]}"
        )


def check_frames(frames: int, step: int) -> None:
    """Raises ValueError, with the nearest count that fits, unless `frames` are one and a multiple of `step`."""
    fitting = max(0, (frames - 1 + step // 2) // step) * step + 1
    if frames != fitting:
        raise ValueError(
            f"{frames} frames do not fit a VAE that takes one frame and then {step} at a time; "
            f"use {step}k + 1, e.g. {fitting}"
        )


def latent_channels(vae: ModelMixin) -> int:
    """Returns the number of channels of the VAE's latents, which Wan's config calls by another name."""
    return vae.config["z_dim" if "z_dim" in vae.config else "latent_channels"]
