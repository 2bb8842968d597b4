"""AnimateDiff on Stable Diffusion XL: motion modules in a UNet that is told each clip's size and crop (2023)."""

from diffusers import AnimateDiffSDXLPipeline
from einops import repeat
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.checks import check_unnormalised
from seppo_core.models.crop import time_ids, uncropped
from seppo_core.models.latents import Condition, CropInfo
from seppo_core.models.text import clip_pair_shapes, encode_clip_pair
from seppo_video.config import MotionModel, Schedule
from seppo_video.motion import MotionFamily


class AnimateDiffXL(MotionFamily):
    """A view of an `AnimateDiffSDXLPipeline`; see `MotionFamily` for `schedule`.

    diffusers (0.42 at least) loses the base's `add_embedding` when it puts motion into a base, so that its pipeline of
    base and adapter draws from sizes and captions at random. `load` keeps it, and so does what is exported whole
    (`--kind full`, with `--checkpoint base` the start): that is the pipeline to put an exported LoRA or motion on.
    """

    pipeline: AnimateDiffSDXLPipeline

    def __init__(self, pipeline: AnimateDiffSDXLPipeline, schedule: Schedule = MotionModel.schedule):
        if pipeline.unet.config.addition_embed_type != "text_time":
            raise ValueError("the UNet is not told sizes beside its text; use a Stable Diffusion XL base")
        check_unnormalised(pipeline.vae)
        super().__init__(pipeline, schedule)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """{"text": (b, tokens, d), "pooled": (b, p)}; "" gives zeros if the pipeline's config says so."""
        text, pooled = encode_clip_pair(self.pipeline, prompts)
        return {"text": text, "pooled": pooled}

    def caption_shapes(self) -> Condition:
        return clip_pair_shapes(self.pipeline)

    def size_condition(self, framings: list[CropInfo]) -> Condition:
        """{"time_ids": (b, 6)}: one size and crop a clip, for its frames are cut alike (see `time_ids`)."""
        return {"time_ids": time_ids(framings)}

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c f h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c f h w"]:
        """Without "time_ids", as in sampling, the denoiser is told an uncropped clip of x_t's own size."""
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
