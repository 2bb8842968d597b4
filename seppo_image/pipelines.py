"""What the image families do alike around their diffusers pipelines: what they refuse, what sizes fit."""

from diffusers import AutoencoderTiny, DiffusionPipeline
from torch import nn

from seppo_core.models.vae import check_size


def check_channels(pipeline: DiffusionPipeline, denoiser: nn.Module, packed: int = 1, variance: bool = False) -> None:
    """ValueError unless the denoiser takes and gives the VAE's latents, `packed` of them a token.

    With `variance` it may give as many channels again behind them: a variance that it learnt.
    """
    vae = pipeline.vae
    if isinstance(vae, AutoencoderTiny):
        raise ValueError(f"{type(vae).__name__} has no posterior to draw latents from; use an AutoencoderKL as `vae`")
    channels = vae.config.latent_channels * packed
    taken, given = denoiser.config.in_channels, denoiser.config.out_channels or denoiser.config.in_channels
    fitting = (channels, 2 * channels) if variance else (channels,)
    if taken != channels or given not in fitting:
        raise ValueError(
            f"the denoiser takes {taken} and gives {given} channels, the VAE's latents have {channels}; inpainting, "
            "control and editing models are not supported, use a text-to-image base"
        )


def latent_shape(
    pipeline: DiffusionPipeline, height: int, width: int, frames: int, packed: int = 1
) -> tuple[int, int, int]:
    """(c, h, w) of a picture's latents; ValueError, with the nearest size, unless tokens of `packed`² latents fit."""
    if frames != 1:
        raise ValueError(f"{frames} frames do not fit an image model; use 1")
    factor = pipeline.vae_scale_factor
    check_size(height, width, factor * packed)
    return pipeline.vae.config.latent_channels, height // factor, width // factor
