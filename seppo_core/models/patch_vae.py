"""A linear autoencoder of patches, for small models that do not need a learned one."""

import logging

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class PatchVAE(ModelMixin, ConfigMixin):
    """Stands in for `AutoencoderKL` in a diffusers pipeline: latents are coefficients of p×p patches in a fixed basis.

    Pixels (b, 3, h, w) in [-1, 1] become latents (b, latent_channels, h/p, w/p), with p = 2 ** (number of blocks - 1);
    the posterior has no width, so that a draw from it is its mean. As built, the basis is the pixels themselves: with
    all 3·p² channels nothing is lost. `fit` replaces it by principal components. A pipeline folder that names this
    class loads in plain diffusers once this module is imported.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 12,
        # diffusers pipelines read the spatial factor off the number of blocks: 2 ** (len - 1)
        block_out_channels: tuple[int, ...] = (1, 1),
        scaling_factor: float = 1.0,
        force_upcast: bool = False,
    ):
        super().__init__()
        self.patch = 2 ** (len(block_out_channels) - 1)
        size = in_channels * self.patch**2
        if latent_channels > size:
            raise ValueError(
                f"latent_channels={latent_channels} is more than {self.patch}x{self.patch} patches of {in_channels} "
                f"channels have; use at most {size}"
            )
        self.basis = nn.Parameter(torch.eye(size, latent_channels), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.deviation = nn.Parameter(torch.ones(latent_channels), requires_grad=False)

    def fit(self, pixels: Float[Tensor, "b c h w"], whitening: float = 0.5) -> float:
        """Takes the patches' mean and first principal components; returns the mean squared error that remains.

        Each channel is divided by its standard deviation to the power `whitening`: 0 keeps the pixels' distances, 1
        gives every channel unit variance.
        """
        patches = self._patches(pixels).flatten(0, 2).double()
        mean = patches.mean(0)
        centred = patches - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))  # in ascending order
        kept = vectors.flip(1)[:, : self.basis.shape[1]]
        # the sign of an eigenvector is the library's choice: the largest entry is made positive
        kept = kept * kept.gather(0, kept.abs().argmax(0, keepdim=True)).sign()
        self.basis.data.copy_(kept)
        self.mean.data.copy_(mean)
        self.deviation.data.copy_(values.flip(0)[: self.basis.shape[1]].sqrt() ** whitening)
        return values.flip(0)[self.basis.shape[1] :].sum().item() / len(values)

    def _patches(self, pixels: Tensor) -> Tensor:
        return rearrange(pixels, "b c (h p) (w q) -> b h w (c p q)", p=self.patch, q=self.patch)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        mean = ((self._patches(x) - self.mean) @ self.basis / self.deviation).movedim(-1, 1).contiguous()
        # DiagonalGaussianDistribution clamps the log-variance at -30: a standard deviation of 3e-7
        posterior = DiagonalGaussianDistribution(torch.cat([mean, torch.full_like(mean, -30.0)], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True, generator=None) -> DecoderOutput | tuple[Tensor]:
        patches = (z.movedim(1, -1) * self.deviation) @ self.basis.T + self.mean
        pixels = rearrange(patches, "b h w (c p q) -> b c (h p) (w q)", p=self.patch, q=self.patch)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)

    def enable_slicing(self) -> None:
        """Nothing to slice: encoding moves memory only."""

    disable_slicing = enable_tiling = disable_tiling = enable_slicing


# it takes an autoencoder's place on purpose
logging.getLogger("diffusers.pipelines.pipeline_utils").addFilter(
    lambda record: "got <class 'seppo_core.models.patch_vae.PatchVAE'>" not in record.getMessage()
)
