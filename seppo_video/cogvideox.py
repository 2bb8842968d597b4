"""CogVideoX 2b, 5b and 1.5: a diffusion over clips with an expert transformer (arXiv 2408.06072, 2024)."""

from functools import lru_cache

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline
from diffusers.configuration_utils import FrozenDict
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from seppo_core.models.checks import check_frames
from seppo_core.models.latents import Condition, Posterior
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.sampling import effective_config
from seppo_core.models.video_adapter import Strides, VideoAdapter
from seppo_core.models.video_vae import Scaling


class CogVideoX(VideoAdapter):
    """A view of a `CogVideoXPipeline`; its transformer is the denoiser, its VAE and text encoder are frozen.

    1.5 packs pairs of latent frames into a token. A clip has an odd number of them, so that its first is there twice,
    in training and in sampling alike, and `decode` drops one.
    A base that comes with `CogVideoXDPMScheduler`, whose steps need more than a prediction, is sampled with DDIM.
    """

    pipeline: CogVideoXPipeline
    guidance = "cfg"

    def __init__(self, pipeline: CogVideoXPipeline):
        transformer = pipeline.transformer.config
        if isinstance(pipeline.scheduler, CogVideoXDPMScheduler):
            pipeline.scheduler = CogVideoXDDIMScheduler.from_config(effective_config(pipeline.scheduler))
        super().__init__(
            pipeline,
            DiffusionNoisePath.from_scheduler(pipeline.scheduler),
            Scaling.uniform(pipeline.vae.config.scaling_factor),
            Strides(pipeline.vae_scale_factor_spatial, pipeline.vae_scale_factor_temporal, transformer.patch_size),
        )
        self.packed_frames = transformer.patch_size_t or 1
        self.text_tokens = transformer.max_text_seq_length

    def encode(self, pixels: Float[Tensor, "b 3 f h w"]) -> Posterior:
        posterior = super().encode(pixels)
        repeats = -posterior.mean.shape[2] % self.packed_frames
        return Posterior(*(torch.cat([x[:, :, :1]] * repeats + [x], dim=2) for x in posterior))

    def decode(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b 3 F H W"]:
        # the VAE knows odd numbers of latent frames only, so that an even one has the first twice
        return super().decode(latents[:, :, 1 - latents.shape[2] % 2 :])

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, int, int, int]:
        # the VAE decodes latent frames two at a time after the first
        check_frames(frames, 2 * self.strides.time)
        channels, count, rows, columns = super().latent_shape(height, width, frames)
        return channels, count + -count % self.packed_frames, rows, columns

    def predict(
        self, denoiser: nn.Module, x_t: Float[Tensor, "b c f h w"], t: Num[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c f h w"]:
        dtype = next(denoiser.parameters()).dtype
        prediction = denoiser(
            hidden_states=rearrange(x_t, "b c f h w -> b f c h w").to(dtype),
            encoder_hidden_states=condition["text"].to(dtype),
            timestep=t,
            image_rotary_emb=rotary_embedding(self.denoiser.config, tuple(x_t.shape[2:]), x_t.device),
            return_dict=False,
        )[0]
        return rearrange(prediction, "b f c h w -> b c f h w")


def rotary_embedding(
    config: FrozenDict, size: tuple[int, int, int], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines of the positions of tokens in latents of `size` (f, h, w); None for a transformer without (2b).

    Positions are those of the size that the model was trained on, (`sample_height`, `sample_width`): 5b stretches a
    picture's to that size, 1.5 counts from a corner.
    """
    if not config.use_rotary_positional_embeddings:
        return None
    return _rotary_embedding(
        config.attention_head_dim,
        config.patch_size,
        config.patch_size_t,
        (config.sample_height, config.sample_width),
        size,
        device,
    )


# a run has one or two sizes, and they come back at every step
@lru_cache(maxsize=4)
def _rotary_embedding(
    width: int,
    patch: int,
    packed_frames: int | None,
    trained: tuple[int, int],
    size: tuple[int, int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    grid = (size[1] // patch, size[2] // patch)
    base = (trained[0] // patch, trained[1] // patch)
    if packed_frames is None:
        region = get_resize_crop_region_for_grid(grid, tgt_width=base[1], tgt_height=base[0])
        return get_3d_rotary_pos_embed(width, region, grid, size[0], device=device)
    return get_3d_rotary_pos_embed(
        width, None, grid, size[0] // packed_frames, grid_type="slice", max_size=base, device=device
    )
