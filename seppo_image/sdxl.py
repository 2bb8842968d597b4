"""Stable Diffusion XL: a UNet that is told each picture's size and crop beside the caption (arXiv 2307.01952, 2023)."""

import torch
from diffusers import StableDiffusionXLPipeline
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.adapter import Adapter, Condition, CropInfo, Posterior
from seppo_core.models.crop import time_ids, uncropped
from seppo_core.models.loading import freeze, load_pipeline
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.text import encode_clip_pair
from seppo_core.models.vae import decode_images, encode_images
from seppo_image.pipelines import check_channels, latent_shape


class StableDiffusionXL(Adapter):
    """A view of a `StableDiffusionXLPipeline`; its UNet is the denoiser, its VAE and two text encoders are frozen."""

    pipeline: StableDiffusionXLPipeline
    guidance = "cfg"
    xformers = True
    lora_targets = {"all": ["to_q", "to_k", "to_v", "to_out.0"]}  # noqa: RUF012
    trainable = {"all": ".*"}  # noqa: RUF012

    def __init__(self, pipeline: StableDiffusionXLPipeline):
        check_channels(pipeline, pipeline.unet)
        if pipeline.unet.config.time_cond_proj_dim is not None:
            raise ValueError("the UNet is distilled with embedded guidance (LCM); use the base it was distilled from")
        if pipeline.vae.config.latents_mean is not None:
            raise ValueError("this VAE normalises each channel by itself (Playground 2.5); use an SDXL one as `vae`")
        self.pipeline = pipeline
        self.denoiser = pipeline.unet
        self.scheduler = pipeline.scheduler
        self.path = DiffusionNoisePath.from_scheduler(pipeline.scheduler)
        freeze(pipeline, pipeline.unet)

    @classmethod
    def load(
        cls,
        base: str,
        *,
        dtype: torch.dtype,
        vae: str | None = None,
        revision: str | None = None,
        variant: str | None = None,
    ) -> "StableDiffusionXL":
        """Loads `base`, a folder or a hub id (see `load_pipeline`); in float16 the VAE stays float32 unless it may."""
        return cls(
            load_pipeline(
                StableDiffusionXLPipeline, base, dtype=dtype, vae=vae, revision=revision, variant=variant
            )
        )  # fmt: skip

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, tokens, d), "pooled": (b, p)}; "" gives zeros where the pipeline's config says so, as SDXL's."""
        text, pooled = encode_clip_pair(self.pipeline, prompts)
        return {"text": text, "pooled": pooled}

    def size_condition(self, framings: list[CropInfo]) -> Condition:
        """{"time_ids": (b, 6)}: each picture's size and crop (see `time_ids`)."""
        return {"time_ids": time_ids(framings)}

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        return encode_images(self.pipeline.vae, pixels)

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return decode_images(self.pipeline.vae, latents)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, int, int]:
        return latent_shape(self.pipeline, height, width, frames)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """A condition that names no "time_ids" is that of an uncropped picture of x_t's own size, as one samples."""
        dtype = next(denoiser.parameters()).dtype
        told = condition["time_ids"] if "time_ids" in condition else uncropped(x_t, self.pipeline.vae_scale_factor)
        return denoiser(
            x_t.to(dtype),
            t,
            encoder_hidden_states=condition["text"].to(dtype),
            added_cond_kwargs={"text_embeds": condition["pooled"].to(dtype), "time_ids": told},
            return_dict=False,
        )[0]

    def export_pipeline(self) -> StableDiffusionXLPipeline:
        """The pipeline around the current denoiser, sharing its weights; the VAE may be float32 beside a half UNet."""
        components = self.pipeline.components | {
            "unet": self.denoiser,
            "scheduler": type(self.scheduler).from_config(self.scheduler.config),
        }
        zeros = self.pipeline.config.force_zeros_for_empty_prompt
        return StableDiffusionXLPipeline(
            **components, force_zeros_for_empty_prompt=zeros, add_watermarker=self.pipeline.watermark is not None
        )
