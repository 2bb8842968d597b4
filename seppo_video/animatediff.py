"""AnimateDiff: Stable Diffusion 1.5 with motion modules between its layers; text to video (arXiv 2307.04725, 2023)."""

from diffusers import AnimateDiffPipeline
from einops import repeat
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.latents import Condition
from seppo_video.config import MotionModel, Schedule
from seppo_video.motion import MotionFamily


class AnimateDiff(MotionFamily):
    """A view of an `AnimateDiffPipeline`; see `MotionFamily` for `schedule`."""

    pipeline: AnimateDiffPipeline

    def __init__(self, pipeline: AnimateDiffPipeline, schedule: Schedule = MotionModel.schedule):
        if pipeline.unet.config.addition_embed_type is not None:
            raise ValueError("the UNet wants more than text (SDXL's sizes); use a Stable Diffusion 1.5 base")
        super().__init__(pipeline, schedule)

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c f h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c f h w"]:
        # the first weight's dtype: under autocast float32, and half precision if the base was loaded so
        dtype = next(denoiser.parameters()).dtype
        # every frame attends to the text by itself; frames of one clip are neighbours, as inside the UNet
        text = repeat(condition["text"].to(dtype), "b s d -> (b f) s d", f=x_t.shape[2])
        return denoiser(x_t.to(dtype), t, encoder_hidden_states=text, return_dict=False)[0]
