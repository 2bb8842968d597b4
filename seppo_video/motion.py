"""Image models with motion modules between their layers: what AnimateDiff's families share (arXiv 2307.04725, 2023)."""

import warnings
from types import MappingProxyType
from typing import Any, Self

import torch
from diffusers import (
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
)
from diffusers.schedulers import SchedulerMixin
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from seppo_core.models.adapter import Adapter, SamplerChange
from seppo_core.models.checks import check_positions, check_size, latent_channels
from seppo_core.models.latents import Posterior
from seppo_core.models.loading import base_folder, base_kind, component_source, load_model, load_part, load_pipeline
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.sampling import effective_config
from seppo_core.models.vae import cast, decode_images, encode_images
from seppo_video.config import MotionModel, Schedule, motion_misfits

MotionPipeline = AnimateDiffPipeline | AnimateDiffSDXLPipeline

ATTENTION = r"\.(to_q|to_k|to_v|to_out\.0)"
LINEAR_BETAS = {
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "clip_sample": False,
    "timestep_spacing": "linspace",
}
"""Scheduler config that the published motion modules were trained and are sampled with, whatever their base was."""
SOLVER = {"steps_offset": 1, "thresholding": False}
"""Further config of the DDIM scheduler with these betas."""


class MotionFamily(Adapter):
    """A view of a pipeline whose UNetMotionModel is the denoiser; its VAE and text encoders are frozen.

    Motion modules were trained on linear betas: with `schedule="linear"` those are the path's and the sampler's even
    where the base says otherwise, which is warned of. `schedule="base"` takes what the base says, for models whose
    motion was trained on it. A VAE whose config asks for it (`force_upcast`) is kept in float32.
    """

    pipeline: MotionPipeline
    guidance = "cfg"
    xformers = True
    lora_targets = MappingProxyType(
        {
            "all": f".*{ATTENTION}",
            "motion": rf".*motion_modules\..*{ATTENTION}",
            "spatial": rf"(?!.*motion_modules\.).*{ATTENTION}",
        }
    )
    trainable = MappingProxyType({"all": ".*", "motion": r".*motion_modules\.", "spatial": r"(?!.*motion_modules\.)"})

    def __init__(self, pipeline: MotionPipeline, schedule: Schedule = MotionModel.schedule):
        if schedule not in ("linear", "base"):
            raise ValueError(f'schedule={schedule!r} is not known; use "linear" or "base"')
        # the UNet holds a copy of the motion weights that training moves; this one would go stale
        pipeline.register_modules(motion_adapter=None)
        if schedule == "linear":
            pipeline.scheduler = _linear_scheduler(pipeline.scheduler)
            self.sampler_change = SamplerChange(DDIMScheduler, LINEAR_BETAS | SOLVER)
        super().__init__(pipeline, DiffusionNoisePath.from_scheduler(pipeline.scheduler))

    @classmethod
    def load(cls, model: MotionModel, dtype: torch.dtype) -> Self:
        """A saved pipeline with motion, or an image base with the motion modules of `model.motion_adapter` in it.

        An adapter that is named beside a saved pipeline replaces the motion in it. Raises FileNotFoundError if nothing
        is found and ValueError if the two do not fit together, or if an image base has no adapter.
        """
        found, named = base_kind(model), model.motion_adapter
        components: dict[str, nn.Module | None] = {"motion_adapter": None}
        folder = base_folder(model)
        if named is not None:
            numbers = MotionAdapter.load_config(component_source(named, "motion_adapter"))
            unet_numbers = UNetMotionModel.load_config(folder / "unet") if folder.is_dir() else {}
            if misfits := motion_misfits(unet_numbers, numbers):
                raise ValueError(f"motion_adapter={named!r} and base={model.base!r}: {'; '.join(misfits)}")
            motion = load_model(MotionAdapter, named, "motion_adapter", dtype)
            components["motion_adapter"] = motion
        if found == model.spec.image_pipeline:
            components["unet"] = with_motion(load_part(model, folder, UNet2DConditionModel, "unet", dtype), motion)
        pipeline = load_pipeline(model, dtype, components)
        if found == model.spec.pipeline and named is not None:
            _check_names(motion, pipeline.unet, named)
            pipeline.unet.load_motion_modules(motion)
        return cls.configured(pipeline, model)

    @classmethod
    def configured(cls, pipeline: MotionPipeline, model: MotionModel) -> Self:
        return cls(pipeline, model.schedule)

    def encode(self, pixels: Float[Tensor, "b 3 f h w"]) -> Posterior:
        posterior = encode_images(self.pipeline.vae, rearrange(pixels, "b c f h w -> (b f) c h w"))
        return Posterior(*(rearrange(x, "(b f) c h w -> b c f h w", b=len(pixels)) for x in posterior))

    def decode(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b 3 f H W"]:
        images = decode_images(self.pipeline.vae, rearrange(latents, "b c f h w -> (b f) c h w"))
        return rearrange(images, "(b f) c h w -> b c f h w", b=len(latents))

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, int, int, int]:
        check_positions(frames, self.pipeline.unet.config.motion_max_seq_length)
        factor = self.pipeline.vae_scale_factor
        check_size(height, width, factor)
        return latent_channels(self.pipeline.vae), frames, height // factor, width // factor

    def motion_adapter(self) -> MotionAdapter:
        """A MotionAdapter with a copy of the denoiser's motion weights, to go with any other base of the family."""
        return motion_adapter_of(self.denoiser)

    def export_components(self) -> dict[str, Any]:
        """Also the denoiser's motion as a `motion_adapter`, which diffusers saves beside the UNet."""
        return super().export_components() | {"motion_adapter": self.motion_adapter()}


def with_motion(unet: UNet2DConditionModel, motion: MotionAdapter) -> UNetMotionModel:
    """A copy of `unet` with `motion` between its layers."""
    animated = UNetMotionModel.from_unet2d(unet, motion)
    if unet.config.addition_embed_type is not None:
        # diffusers (0.42 at least) leaves this one at random, and with it what an SDXL is told of size and caption
        animated.add_embedding.load_state_dict(unet.add_embedding.state_dict())
    return animated


def motion_adapter_of(unet: UNetMotionModel) -> MotionAdapter:
    """The motion modules of `unet` alone, copied, in its dtype."""
    config = unet.config
    adapter = MotionAdapter(
        block_out_channels=config.block_out_channels,
        motion_layers_per_block=config.layers_per_block,
        motion_transformer_layers_per_block=config.temporal_transformer_layers_per_block,
        motion_mid_block_layers_per_block=config.mid_block_layers,
        motion_transformer_layers_per_mid_block=config.temporal_transformer_layers_per_mid_block,
        motion_num_attention_heads=config.motion_num_attention_heads,
        motion_norm_num_groups=config.norm_num_groups,
        motion_max_seq_length=config.motion_max_seq_length,
        use_motion_mid_block=config.use_motion_mid_block,
    ).to(unet.device)
    cast(adapter, unet.dtype)
    adapter.load_state_dict({name: value for name, value in unet.state_dict().items() if "motion_modules." in name})
    return adapter


def _linear_scheduler(base: SchedulerMixin) -> DDIMScheduler:
    """DDIM on the motion modules' betas; prediction type and the rest stay the base's. Warns if the two differ."""
    missing = object()
    differing = [
        f"{name}={base.config[name]!r} (now {value!r})"
        for name, value in LINEAR_BETAS.items()
        if base.config.get(name, missing) not in (value, missing)
    ]
    if differing:
        warnings.warn(
            "AnimateDiff's motion modules were trained on linear betas, and these replace what the base's scheduler "
            f'says: {", ".join(differing)}. For motion trained on the base\'s own noise set schedule="base".',
            stacklevel=6,
        )
    return DDIMScheduler.from_config(effective_config(base) | LINEAR_BETAS, **SOLVER)


def _check_names(motion: MotionAdapter, unet: UNetMotionModel, name: str) -> None:
    """ValueError unless the UNet has a place for every motion weight and takes all of its own from there.

    diffusers would leave out what has none, and keep the UNet's own where the adapter has nothing.
    """
    given = set(motion.state_dict())
    differing = sorted(given ^ {key for key in unet.state_dict() if "motion_modules." in key})
    if differing:
        raise ValueError(
            f"motion_adapter={name!r} has other motion modules than the base's UNet ({', '.join(differing[:3])}); name "
            "one made for this base"
        )
