"""Stable Diffusion 1.x and 2.x: text to image with a UNet, ε or v prediction."""

from diffusers import StableDiffusionPipeline
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.image_adapter import ImageAdapter
from seppo_core.models.latents import Condition
from seppo_core.models.noise_path import DiffusionNoisePath


class StableDiffusion(ImageAdapter):
    """A view of a `StableDiffusionPipeline`; its UNet is the denoiser, its VAE and text encoder are frozen.

    A VAE whose config asks for it (`force_upcast`, as Stable Diffusion's do) is kept in float32.
    """

    pipeline: StableDiffusionPipeline
    guidance = "cfg"
    xformers = True

    def __init__(self, pipeline: StableDiffusionPipeline):
        super().__init__(pipeline, DiffusionNoisePath.from_scheduler(pipeline.scheduler))

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        # the first weight's dtype: under autocast float32, and half precision if the base was loaded so
        dtype = next(denoiser.parameters()).dtype
        return denoiser(x_t.to(dtype), t, encoder_hidden_states=condition["text"].to(dtype), return_dict=False)[0]
