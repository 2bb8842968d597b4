"""Base class of the text-to-video adapters with a causal VAE, which encodes and decodes whole clips."""

from typing import NamedTuple

from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from seppo_core.models.adapter import Adapter
from seppo_core.models.checks import check_frames, check_size, latent_channels
from seppo_core.models.latents import Posterior
from seppo_core.models.noise_path import NoisePath
from seppo_core.models.video_vae import Scaling, decode_clips, encode_clips


class Strides(NamedTuple):
    """Pixels and frames that a latent stands for, and latents along a side of the denoiser's token."""

    space: int
    time: int
    patch: int


class VideoAdapter(Adapter):
    """An adapter of clips (b, 3, f, h, w); the VAE takes one frame and then `strides.time` at a time."""

    component = "transformer"

    def __init__(
        self, pipeline: DiffusionPipeline, path: NoisePath, scaling: Scaling, strides: Strides, *, packed: int = 1
    ):
        super().__init__(pipeline, path, packed=packed)
        self.scaling = scaling
        self.strides = strides

    def encode(self, pixels: Float[Tensor, "b 3 f h w"]) -> Posterior:
        return encode_clips(self.pipeline.vae, pixels, self.scaling)

    def decode(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b 3 F H W"]:
        return decode_clips(self.pipeline.vae, latents, self.scaling)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, int, int, int]:
        space, time, patch = self.strides
        check_frames(frames, time)
        check_size(height, width, space * patch)
        return latent_channels(self.pipeline.vae), (frames - 1) // time + 1, height // space, width // space
