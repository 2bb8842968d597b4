"""AnimateDiff on Stable Diffusion XL: motion modules in a UNet that is told each clip's size and crop (2023)."""

from typing import Literal

import torch
from diffusers import AnimateDiffSDXLPipeline
from einops import repeat
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.export.snippets import Sources, pipeline_code, quoted
from seppo_core.models.checks import check_unnormalised
from seppo_core.models.crop import time_ids, uncropped
from seppo_core.models.latents import Condition, CropInfo
from seppo_core.models.text import encode_clip_pair
from seppo_video.motion import MotionFamily, load_with_motion


class AnimateDiffXL(MotionFamily):
    """A view of an `AnimateDiffSDXLPipeline`; see `MotionFamily` for `schedule`.

    diffusers (0.42 at least) loses the base's `add_embedding` when it puts motion into a base, so that its pipeline of
    base and adapter draws from sizes and captions at random. `load` keeps it, and so does what is exported whole
    (`--kind full`, with `--checkpoint base` the start): that is the pipeline to put an exported LoRA or motion on.
    """

    pipeline: AnimateDiffSDXLPipeline

    def __init__(self, pipeline: AnimateDiffSDXLPipeline, schedule: Literal["linear", "base"] = "linear"):
        if pipeline.unet.config.addition_embed_type != "text_time":
            raise ValueError("the UNet is not told sizes beside its text; use a Stable Diffusion XL base")
        check_unnormalised(pipeline.vae)
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
    ) -> "AnimateDiffXL":
        """Loads a Stable Diffusion XL `base` with a `motion_adapter`, or a saved AnimateDiffSDXL pipeline without one
        (see `load_with_motion`)."""
        pipeline = load_with_motion(
            AnimateDiffSDXLPipeline, "StableDiffusionXLPipeline", base, motion_adapter=motion_adapter, dtype=dtype,
            vae=vae, revision=revision, variant=variant, example="guoyww/animatediff-motion-adapter-sdxl-beta",
        )  # fmt: skip
        return cls(pipeline, schedule)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, tokens, d), "pooled": (b, p)}; "" gives zeros where the pipeline's config says so."""
        text, pooled = encode_clip_pair(self.pipeline, prompts)
        return {"text": text, "pooled": pooled}

    def size_condition(self, framings: list[CropInfo]) -> Condition:
        """{"time_ids": (b, 6)}: one size and crop a clip, for its frames are cut alike (see `time_ids`)."""
        return {"time_ids": time_ids(framings)}

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c f h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c f h w"]:
        """A condition that names no "time_ids" is that of an uncropped clip of x_t's own size, as one samples."""
        dtype = next(denoiser.parameters()).dtype
        # the UNet itself repeats what goes with the timestep for the frames, but not the text
        text = repeat(condition["text"].to(dtype), "b s d -> (b f) s d", f=x_t.shape[2])
        told = condition["time_ids"] if "time_ids" in condition else uncropped(x_t, self.pipeline.vae_scale_factor)
        return denoiser(
            x_t.to(dtype),
            t,
            encoder_hidden_states=text,
            added_cond_kwargs={"text_embeds": condition["pooled"].to(dtype), "time_ids": told},
            return_dict=False,
        )[0]

    def joined_code(self, base: Sources) -> list[str]:
        where = "".join(f", {key}={quoted(base[key])}" for key in ("revision", "variant") if key in base)
        return [
            "from diffusers import UNet2DConditionModel",
            f'unet = UNet2DConditionModel.from_pretrained({quoted(base["base"])}, subfolder="unet"{where})',
            *pipeline_code(self.pipeline, base, unet="unet", motion_adapter="motion_adapter"),
            "# diffusers leaves this one at random, and with it what the UNet is told of size and caption",
            "pipe.unet.add_embedding.load_state_dict(unet.add_embedding.state_dict())",
        ]
