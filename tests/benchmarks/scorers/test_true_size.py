"""The published sizes on the meta device: every name and shape of a checkpoint has its place, none is left over."""

from dataclasses import replace
from math import prod

import pytest
import torch
from transformers import CLIPModel

from seppo_core.judging.aesthetic import HEADS, mlp_head
from seppo_core.judging.checkpoint_keys import blip_vision_state, clip_h_14, clip_l_14, clip_state
from seppo_core.judging.hpsv2 import WEIGHTS as HPS_WEIGHTS
from seppo_core.judging.image_reward import WEIGHTS as REWARD_WEIGHTS
from seppo_core.judging.image_reward import RewardModel, blip_text, blip_vision, reward_state
from seppo_core.judging.pickscore import WEIGHTS as PICKSCORE_WEIGHTS
from tests.benchmarks.scorers.layouts_by_hand import (
    IMAGE_REWARD,
    VIT_H_14,
    VIT_L_14,
    blip_shapes,
    clip_shapes,
    head_shapes,
)


def on_meta(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize(
    ("config", "clip", "parameters"),
    # the counts are those that LAION and OpenAI publish: 986.11 and 427.62 million
    [(clip_h_14(), VIT_H_14, 986_109_441), (clip_l_14(), VIT_L_14, 427_616_513)],
)
def test_clip(config, clip, parameters):
    published = clip_shapes(clip)
    assert sum(prod(shape) for shape in published.values()) == parameters
    with torch.device("meta"):
        model = CLIPModel(config)
    converted = {key: tuple(value.shape) for key, value in clip_state(on_meta(published)).items()}
    assert converted == shapes_of(model)
    expected = "quick_gelu" if clip.quick_gelu else "gelu"
    assert config.vision_config.hidden_act == config.text_config.hidden_act == expected
    heads = (config.vision_config.num_attention_heads, config.text_config.num_attention_heads)
    assert heads == (clip.heads, clip.text_heads)
    assert config.vision_config.image_size == 224 and config.vision_config.layer_norm_eps == 1e-5


def test_published_file_sizes_are_those_of_the_parameters():
    # half precision, and the names and offsets of 521 tensors
    assert 0 < HPS_WEIGHTS["2.0"].size - 2 * 986_109_441 < 500_000
    assert PICKSCORE_WEIGHTS.size == pytest.approx(4 * 986_109_441, rel=1e-3)
    assert HEADS["v2"].size == 4 * sum(prod(shape) for shape in head_shapes(768).values())
    stored = sum(prod(shape) for shape in blip_shapes(IMAGE_REWARD).values())
    assert REWARD_WEIGHTS.size == pytest.approx(4 * stored, rel=0.01)


def test_image_reward():
    published = blip_shapes(IMAGE_REWARD)
    with torch.device("meta"):
        model = RewardModel(blip_vision(), blip_text())
    converted = {key: tuple(value.shape) for key, value in reward_state(on_meta(published)).items()}
    assert converted.pop("text.embeddings.position_ids") == (1, 512)
    assert converted == shapes_of(model)
    assert model.text.config.layer_norm_eps == 1e-12 and model.vision.config.layer_norm_eps == 1e-6


def test_aesthetic_heads():
    with torch.device("meta"):
        head = mlp_head(768)
    assert {f"layers.{key}": shape for key, shape in shapes_of(head).items()} == head_shapes(768)
    # nothing but linear maps and dropouts: no activation
    assert {type(layer).__name__ for layer in head} == {"Linear", "Dropout"}


def test_an_unknown_key_is_named():
    state = on_meta(clip_shapes(replace(VIT_L_14, layers=1, text_layers=1)))
    with pytest.raises(ValueError, match=r"key visual\.ln_mid\.weight is none of this layout's"):
        clip_state(state | {"visual.ln_mid.weight": torch.empty(1)})
    with pytest.raises(ValueError, match=r"key visual\.transformer\.resblocks\.0\.mlp\.c_fc\.scale is none"):
        clip_state(state | {"visual.transformer.resblocks.0.mlp.c_fc.scale": torch.empty(1)})
    with pytest.raises(ValueError, match=r"key blocks\.0\.norm3\.bias is none"):
        blip_vision_state({"blocks.0.norm3.bias": torch.empty(1)})
    assert "attn_mask" not in clip_state(state | {"attn_mask": torch.empty(77, 77)})
