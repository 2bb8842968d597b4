"""What `plan` has to know of the image families: their bases' numbers, and the shapes that captions take."""

from collections.abc import Callable
from pathlib import Path

import torch

from seppo_core.models.adapter import Adapter, Condition
from seppo_core.plan.architecture import pipeline_architecture
from seppo_core.plan.build import build_pipeline, clip_condition, clip_pair_condition, replacements
from seppo_image.config import ImageConfig
from seppo_image.flux import Flux
from seppo_image.pixart import PixArtSigma
from seppo_image.sana import Sana
from seppo_image.sd3 import StableDiffusion3
from seppo_image.sdxl import StableDiffusionXL
from seppo_image.stable_diffusion import StableDiffusion

BASES = Path(__file__).parent / "bases"
"""Architecture numbers of published bases, as their config.json files have them."""


def build(config: ImageConfig, dtype: torch.dtype, family: type[Adapter]) -> Adapter:
    """The adapter of `family` around the config's base, its weights on the meta device.

    FileNotFoundError where nothing is known of the base or the VAE without network.
    """
    m = config.model
    keys = m.family_keys()
    without = () if keys.pop("t5", True) else ("text_encoder_3", "tokenizer_3")
    pipeline = build_pipeline(
        family.__annotations__["pipeline"],
        pipeline_architecture(m.base, BASES, m.revision),
        dtype,
        replaced=replacements({"vae": m.vae}, BASES),
        without=without,
    )
    return family(pipeline, **keys)


def condition(adapter: Adapter) -> Condition:
    """What `encode_prompts` gives of one caption, (1, …) each, on the meta device and without a text encoder's work."""
    with torch.device("meta"):
        return SHAPES[type(adapter)](adapter)


def _sd3(adapter: StableDiffusion3) -> Condition:
    p = adapter.pipeline
    tokens = p.tokenizer.model_max_length + adapter.text_tokens
    return {
        "text": torch.empty(1, tokens, adapter.denoiser.config.joint_attention_dim),
        "pooled": torch.empty(1, p.text_encoder.config.projection_dim + p.text_encoder_2.config.projection_dim),
    }


def _flux(adapter: Flux) -> Condition:
    p = adapter.pipeline
    return {
        "text": torch.empty(1, adapter.text_tokens, p.text_encoder_2.config.d_model),
        "pooled": torch.empty(1, p.text_encoder.config.hidden_size),
    }


def _masked(adapter: Sana | PixArtSigma) -> Condition:
    return {
        "text": torch.empty(1, adapter.text_tokens, adapter.pipeline.text_encoder.config.hidden_size),
        "mask": torch.ones(1, adapter.text_tokens, dtype=torch.int64),
    }


SHAPES: dict[type[Adapter], Callable[..., Condition]] = {
    StableDiffusion: clip_condition,
    StableDiffusionXL: clip_pair_condition,
    StableDiffusion3: _sd3,
    Flux: _flux,
    Sana: _masked,
    PixArtSigma: _masked,
}
"""By family."""
