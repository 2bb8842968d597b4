"""An exact autoencoder whose latents are rearranged pixels, for small models that do not need a learned one."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn


class PixelShuffleVAE(ModelMixin, ConfigMixin):
    """Stands in for `AutoencoderKL` in a diffusers pipeline: folds p×p pixels into channels and back, without loss.

    Pixels (b, 3, h, w) in [-1, 1] become latents (b, 3·p², h/p, w/p); the posterior has no width, so that a draw from
    it is its mean. A pipeline folder that names this class loads in plain diffusers once this module is imported.
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
        patch = 2 ** (len(block_out_channels) - 1)
        if latent_channels != in_channels * patch**2:
            raise ValueError(
                f"latent_channels={latent_channels} does not hold {patch}x{patch} patches of {in_channels} channels; "
                f"use {in_channels * patch**2}"
            )
        self.patch = patch
        # gives the module a dtype and a device to report, and its folder a weights file
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        mean = rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=self.patch, q=self.patch)
        # DiagonalGaussianDistribution clamps the log-variance at -30: a standard deviation of 3e-7
        posterior = DiagonalGaussianDistribution(torch.cat([mean, torch.full_like(mean, -30.0)], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True, generator=None) -> DecoderOutput | tuple[Tensor]:
        pixels = rearrange(z, "b (c p q) h w -> b c (h p) (w q)", p=self.patch, q=self.patch)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)

    def enable_slicing(self) -> None:
        """Nothing to slice: encoding moves memory only."""

    disable_slicing = enable_tiling = disable_tiling = enable_slicing
