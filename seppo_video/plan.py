"""What `plan` has to know of the video families: their bases' numbers, and the shapes that captions take."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from seppo_core.models.adapter import Adapter, Condition
from seppo_core.plan.architecture import pipeline_architecture
from seppo_core.plan.build import build_pipeline, clip_condition, clip_pair_condition, replacements
from seppo_video.animatediff import AnimateDiff
from seppo_video.animatediff_sdxl import AnimateDiffXL
from seppo_video.cogvideox import CogVideoX
from seppo_video.config import VideoConfig
from seppo_video.hunyuan import HunyuanVideo
from seppo_video.ltx import LTX
from seppo_video.wan import Wan

BASES = Path(__file__).parent / "bases"
"""Architecture numbers of published bases and motion modules, as their config.json files have them."""


def build(config: VideoConfig, dtype: torch.dtype, family: type[Adapter]) -> Adapter:
    """The adapter of `family` around the config's base, its weights on the meta device.

    FileNotFoundError where nothing is known of the base, the VAE or the motion modules without network.
    """
    m = config.model
    keys = m.family_keys()
    named = {"vae": m.vae, "motion_adapter": keys.pop("motion_adapter", None)}
    pipeline = build_pipeline(
        family.__annotations__["pipeline"],
        pipeline_architecture(m.base, BASES, m.revision),
        dtype,
        replaced=replacements(named, BASES),
        from_image=named["motion_adapter"] is not None,
    )
    with warnings.catch_warnings():
        # what a base's schedule is replaced by is for `train` to say
        warnings.simplefilter("ignore", UserWarning)
        return family(pipeline, **keys)


def condition(adapter: Adapter) -> Condition:
    """What `encode_prompts` gives of one caption, (1, …) each, on the meta device and without a text encoder's work."""
    with torch.device("meta"):
        return SHAPES[type(adapter)](adapter)


def _text(adapter: CogVideoX | Wan) -> Condition:
    return {"text": torch.empty(1, adapter.text_tokens, adapter.pipeline.text_encoder.config.d_model)}


def _ltx(adapter: LTX) -> Condition:
    return _text(adapter) | {"mask": torch.ones(1, adapter.text_tokens, dtype=torch.bool)}


def _hunyuan(adapter: HunyuanVideo) -> Condition:
    p = adapter.pipeline
    return {
        "text": torch.empty(1, adapter.text_tokens, p.text_encoder.config.hidden_size),
        "mask": torch.ones(1, adapter.text_tokens, dtype=torch.int64),
        "pooled": torch.empty(1, p.text_encoder_2.config.hidden_size),
    }


SHAPES: dict[type[Adapter], Callable[..., Condition]] = {
    AnimateDiff: clip_condition,
    AnimateDiffXL: clip_pair_condition,
    CogVideoX: _text,
    HunyuanVideo: _hunyuan,
    LTX: _ltx,
    Wan: _text,
}
"""By family."""
