"""Stable Diffusion XL: a UNet that is told each picture's size and crop beside the caption (arXiv 2307.01952, 2023)."""

from diffusers import StableDiffusionXLPipeline
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.checks import check_unnormalised
from seppo_core.models.crop import time_ids, uncropped
from seppo_core.models.image_adapter import ImageAdapter
from seppo_core.models.latents import Condition, CropInfo
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.text import clip_pair_shapes, encode_clip_pair


class StableDiffusionXL(ImageAdapter):
    """A view of a `StableDiffusionXLPipeline`; its UNet is the denoiser, its VAE and two text encoders are frozen."""

    pipeline: StableDiffusionXLPipeline
    guidance = "cfg"
    xformers = True

    def __init__(self, pipeline: StableDiffusionXLPipeline):
        check_unnormalised(pipeline.vae)
        super().__init__(pipeline, DiffusionNoisePath.from_scheduler(pipeline.scheduler))

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, tokens, d), "pooled": (b, p)}; "" gives zeros if the pipeline's config says so."""
        text, pooled = encode_clip_pair(self.pipeline, prompts)
        return {"text": text, "pooled": pooled}

    def caption_shapes(self) -> Condition:
        return clip_pair_shapes(self.pipeline)

    def size_condition(self, framings: list[CropInfo]) -> Condition:
        """{"time_ids": (b, 6)}: each picture's size and crop (see `time_ids`)."""
        return {"time_ids": time_ids(framings)}

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """Without "time_ids", as in sampling, the denoiser is told an uncropped picture of x_t's own size."""
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
        exported = super().export_pipeline()
        # diffusers would take one if its package is installed
        exported.watermark = self.pipeline.watermark
        return exported
