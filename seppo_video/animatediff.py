"""AnimateDiff: Stable Diffusion 1.5 with motion modules between its layers; text to video (arXiv 2307.04725, 2023)."""

from typing import Literal

import torch
from diffusers import AnimateDiffPipeline
from einops import repeat
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.latents import Condition
from seppo_core.models.text import encode_text
from seppo_video.motion import MotionFamily, load_with_motion


class AnimateDiff(MotionFamily):
    """A view of an `AnimateDiffPipeline`; see `MotionFamily` for `schedule`."""

    pipeline: AnimateDiffPipeline

    def __init__(self, pipeline: AnimateDiffPipeline, schedule: Literal["linear", "base"] = "linear"):
        if pipeline.unet.config.addition_embed_type is not None:
            raise ValueError("the UNet wants more than text (SDXL's sizes); use a Stable Diffusion 1.5 base")
        super().__init__(pipeline, schedule)

    @classmethod
    def load(
        cls,
        base: str,
        *,
        motion_adapter: str | None,
        dtype: torch.dtype,
        schedule: Literal["linear", "base"] = "linear",
        vae: str | None = None,
        revision: str | None = None,
        variant: str | None = None,
    ) -> "AnimateDiff":
        """Loads a Stable Diffusion 1.5 `base` with a `motion_adapter`, or a saved AnimateDiff pipeline without one
        (see `load_with_motion`)."""
        pipeline = load_with_motion(
            AnimateDiffPipeline, "StableDiffusionPipeline", base, motion_adapter=motion_adapter, dtype=dtype, vae=vae,
            revision=revision, variant=variant, example="guoyww/animatediff-motion-adapter-v1-5-2",
        )  # fmt: skip
        return cls(pipeline, schedule)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, tokens, d)}; what goes beyond the tokenizer's limit is cut off (see `truncated`)."""
        return {"text": encode_text(self.pipeline.tokenizer, self.pipeline.text_encoder, prompts)}

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c f h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c f h w"]:
        # the first weight's dtype: under autocast float32, and half precision where the base was loaded so
        dtype = next(denoiser.parameters()).dtype
        # every frame attends to the text by itself; frames of one clip are neighbours, as inside the UNet
        text = repeat(condition["text"].to(dtype), "b s d -> (b f) s d", f=x_t.shape[2])
        return denoiser(x_t.to(dtype), t, encoder_hidden_states=text, return_dict=False)[0]
