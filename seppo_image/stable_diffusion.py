"""Stable Diffusion 1.x and 2.x: text to image with a UNet, ε or v prediction."""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionPipeline
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.adapter import Adapter, Condition, Posterior
from seppo_core.models.loading import DTYPE, component_source, pipeline_class
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.text import encode_text
from seppo_core.models.vae import cast, check_size, decode_images, encode_images


class StableDiffusion(Adapter):
    """A view of a `StableDiffusionPipeline`; its UNet is the denoiser, its VAE and text encoder are frozen.

    A VAE whose config asks for it (`force_upcast`, as Stable Diffusion's do) is kept in float32.
    """

    pipeline: StableDiffusionPipeline
    guidance = "cfg"
    xformers = True
    lora_targets = {"all": ["to_q", "to_k", "to_v", "to_out.0"]}  # noqa: RUF012
    trainable = {"all": ".*"}  # noqa: RUF012

    def __init__(self, pipeline: StableDiffusionPipeline):
        _refuse(pipeline)
        self.pipeline = pipeline
        self.denoiser = pipeline.unet
        self.scheduler = pipeline.scheduler
        self.path = DiffusionNoisePath.from_scheduler(pipeline.scheduler)
        for module in (pipeline.vae, pipeline.text_encoder):
            module.requires_grad_(False).eval()
        if pipeline.vae.config.force_upcast:
            cast(pipeline.vae, torch.float32)

    @classmethod
    def load(
        cls,
        base: str,
        *,
        dtype: torch.dtype,
        vae: str | None = None,
        revision: str | None = None,
        variant: str | None = None,
    ) -> "StableDiffusion":
        """Loads `base`, a folder or a hub id (a fine-tune counts), optionally with the VAE of `vae`; safetensors only.

        `dtype` is that of UNet and text encoder. Raises FileNotFoundError where nothing is found and ValueError where
        what is found is not a text-to-image Stable Diffusion 1.x or 2.x.
        """
        found = pipeline_class(base, revision)
        if found != "StableDiffusionPipeline":
            raise ValueError(f"base={base!r} is a {found}; use a StableDiffusionPipeline (Stable Diffusion 1.x or 2.x)")
        components = {}
        if vae is not None:
            components["vae"] = AutoencoderKL.from_pretrained(
                component_source(vae, "vae"), use_safetensors=True, **{DTYPE: torch.float32}
            )
        pipeline = StableDiffusionPipeline.from_pretrained(
            component_source(base, "base"),
            revision=revision,
            variant=variant,
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **components,
            # the VAE comes in float32 and steps down below if it may, so that no digits are lost on the way
            **{DTYPE: {"vae": torch.float32, "default": dtype}},
        )
        if not pipeline.vae.config.force_upcast:
            cast(pipeline.vae, dtype)
        return cls(pipeline)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, tokens, d)}; what goes beyond the tokenizer's limit is cut off (see `truncated`)."""
        return {"text": encode_text(self.pipeline.tokenizer, self.pipeline.text_encoder, prompts)}

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        return encode_images(self.pipeline.vae, pixels)

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return decode_images(self.pipeline.vae, latents)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, int, int]:
        if frames != 1:
            raise ValueError(f"{frames} frames do not fit an image model; use 1")
        factor = self.pipeline.vae_scale_factor
        check_size(height, width, factor)
        return self.pipeline.vae.config.latent_channels, height // factor, width // factor

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        # the first weight's dtype: under autocast float32, and half precision where the base was loaded so
        dtype = next(denoiser.parameters()).dtype
        return denoiser(x_t.to(dtype), t, encoder_hidden_states=condition["text"].to(dtype), return_dict=False)[0]

    def export_pipeline(self) -> StableDiffusionPipeline:
        """The pipeline around the current denoiser, sharing its weights; the VAE may be float32 beside a half UNet."""
        components = self.pipeline.components | {
            "unet": self.denoiser,
            "scheduler": type(self.scheduler).from_config(self.scheduler.config),
        }
        return StableDiffusionPipeline(**components, requires_safety_checker=False)


def _refuse(pipeline: StableDiffusionPipeline) -> None:
    """ValueError for what loads as this pipeline class but trains or samples differently."""
    unet, vae = pipeline.unet.config, pipeline.vae
    if isinstance(vae, AutoencoderTiny):
        raise ValueError("AutoencoderTiny has no posterior to draw latents from; use an AutoencoderKL as `vae`")
    channels = vae.config.latent_channels
    if unet.in_channels != channels:
        raise ValueError(
            f"the UNet takes {unet.in_channels} channels and the VAE gives {channels}; inpainting, depth and editing "
            "models are not supported, use a text-to-image base"
        )
    if unet.out_channels != channels:
        raise ValueError(f"the UNet gives {unet.out_channels} channels for {channels} latents: a learned variance?")
    if unet.time_cond_proj_dim is not None:
        raise ValueError("the UNet is distilled with embedded guidance (LCM); use the base that it was distilled from")
