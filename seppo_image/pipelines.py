"""What the image families do alike around their diffusers pipelines: load, freeze, refuse."""

from typing import TypeVar

import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, DiffusionPipeline
from torch import nn

from seppo_core.loading import DTYPE, component_source, pipeline_class
from seppo_core.vae import cast, check_size

P = TypeVar("P", bound=DiffusionPipeline)


def load_pipeline(
    kind: type[P],
    base: str,
    *,
    dtype: torch.dtype,
    vae: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    without: tuple[str, ...] = (),
    autoencoder: type[AutoencoderKL] | type[AutoencoderDC] = AutoencoderKL,
) -> P:
    """The pipeline at `base`, a folder or a hub id, optionally with the VAE of `vae` and `without` some components.

    Safetensors only. `dtype` is that of all but a VAE whose config asks for float32 (`force_upcast`). Raises
    FileNotFoundError where nothing is found and ValueError where what is found is not a `kind`.
    """
    found = pipeline_class(base, revision)
    if found != kind.__name__:
        raise ValueError(f"base={base!r} is a {found}; this family needs a {kind.__name__}")
    components = dict.fromkeys(without)
    if vae is not None:
        components["vae"] = autoencoder.from_pretrained(
            component_source(vae, "vae"), use_safetensors=True, **{DTYPE: torch.float32}
        )
    pipeline = kind.from_pretrained(
        component_source(base, "base"),
        revision=revision,
        variant=variant,
        use_safetensors=True,
        **components,
        # the VAE comes in float32 and steps down below if it may, so that no digits are lost on the way
        **{DTYPE: {"vae": torch.float32, "default": dtype}},
    )
    if not _wants_float32(pipeline):
        cast(pipeline.vae, dtype)
    return pipeline


def freeze(pipeline: DiffusionPipeline, denoiser: nn.Module) -> None:
    """Puts all modules but the denoiser out of training's reach, and a VAE that asks for it into float32."""
    for module in pipeline.components.values():
        if isinstance(module, nn.Module) and module is not denoiser:
            module.requires_grad_(False).eval()
    if _wants_float32(pipeline):
        cast(pipeline.vae, torch.float32)


def _wants_float32(pipeline: DiffusionPipeline) -> bool:
    # AutoencoderDC does not say, and overflows in half precision
    return pipeline.vae.config.get("force_upcast", True)


def check_channels(pipeline: DiffusionPipeline, denoiser: nn.Module, packed: int = 1) -> None:
    """ValueError unless the denoiser takes and gives the VAE's latents, `packed` of them a token."""
    vae = pipeline.vae
    if isinstance(vae, AutoencoderTiny):
        raise ValueError(f"{type(vae).__name__} has no posterior to draw latents from; use an AutoencoderKL as `vae`")
    channels = vae.config.latent_channels * packed
    taken, given = denoiser.config.in_channels, denoiser.config.out_channels or denoiser.config.in_channels
    if (taken, given) != (channels, channels):
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
