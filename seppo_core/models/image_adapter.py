"""Base class of the text-to-image adapters, whose VAE encodes single pictures."""

from jaxtyping import Float
from torch import Tensor

from seppo_core.models.adapter import Adapter
from seppo_core.models.checks import check_size, latent_channels
from seppo_core.models.latents import Posterior
from seppo_core.models.vae import decode_images, encode_images


class ImageAdapter(Adapter):
    """An adapter of images (b, 3, h, w), whose latents are (b, c, h / f, w / f) for the VAE's factor f."""

    @property
    def patch(self) -> int:
        """Number of latents along a side of the denoiser's token; 1 for UNets."""
        return self.denoiser.config.get("patch_size") or 1

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Posterior:
        return encode_images(self.pipeline.vae, pixels)

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return decode_images(self.pipeline.vae, latents)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, int, int]:
        if frames != 1:
            raise ValueError(f"{frames} frames do not fit an image model; use 1")
        factor = self.pipeline.vae_scale_factor
        check_size(height, width, factor * self.patch)
        return latent_channels(self.pipeline.vae), height // factor, width // factor
