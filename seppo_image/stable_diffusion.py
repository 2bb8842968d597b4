"""Stable Diffusion 1.x and 2.x: text to image with a UNet, ε or v prediction."""

import torch
from diffusers import StableDiffusionPipeline
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.image_adapter import ImageAdapter
from seppo_core.models.latents import Condition
from seppo_core.models.loading import load_pipeline
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.text import encode_text


class StableDiffusion(ImageAdapter):
    """A view of a `StableDiffusionPipeline`; its UNet is the denoiser, its VAE and text encoder are frozen.

    A VAE whose config asks for it (`force_upcast`, as Stable Diffusion's do) is kept in float32.
    """

    pipeline: StableDiffusionPipeline
    guidance = "cfg"
    xformers = True

    def __init__(self, pipeline: StableDiffusionPipeline):
        super().__init__(pipeline, DiffusionNoisePath.from_scheduler(pipeline.scheduler))

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
        """Loads `base`, a folder or a hub id (see `load_pipeline`), without its safety checker."""
        return cls(
            load_pipeline(
                StableDiffusionPipeline, base, dtype=dtype, vae=vae, revision=revision, variant=variant,
                without=("safety_checker", "feature_extractor"), requires_safety_checker=False,
            )
        )  # fmt: skip

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, tokens, d)}; what goes beyond the tokenizer's limit is cut off (see `truncated`)."""
        return {"text": encode_text(self.pipeline.tokenizer, self.pipeline.text_encoder, prompts)}

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        # the first weight's dtype: under autocast float32, and half precision where the base was loaded so
        dtype = next(denoiser.parameters()).dtype
        return denoiser(x_t.to(dtype), t, encoder_hidden_states=condition["text"].to(dtype), return_dict=False)[0]
