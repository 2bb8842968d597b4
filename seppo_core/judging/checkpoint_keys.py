"""Published checkpoint layouts, and how their keys are called in transformers: open_clip's CLIP and BLIP's ViT.

The true sizes are here too: CLIP ViT-H/14 (LAION 2022; PickScore, HPSv2) and ViT-L/14 (OpenAI 2021; aesthetic score).
"""

import re

import torch
from torch import Tensor
from transformers import CLIPConfig

END_OF_TEXT = 49407
"""CLIP's last word in its vocabulary of 49408; the text embedding is read where it first stands."""


def clip_h_14() -> CLIPConfig:
    """CLIP ViT-H/14 as LAION trained it, with exact GELU; 986 million parameters."""
    return CLIPConfig(
        text_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
            "eos_token_id": END_OF_TEXT,
        },
        vision_config={
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
            "hidden_act": "gelu",
        },
        projection_dim=1024,
    )


def clip_l_14() -> CLIPConfig:
    """CLIP ViT-L/14 as OpenAI trained it, with the sigmoid approximation of GELU; 428 million parameters."""
    return CLIPConfig(
        text_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
            "eos_token_id": END_OF_TEXT,
        },
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
            "hidden_act": "quick_gelu",
        },
        projection_dim=768,
    )


_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OUTSIDE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    # transformers spells it so
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "logit_scale": "logit_scale",
}
_PROJECTIONS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_RESBLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")


def clip_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP state dict under transformers' names, whether it came from there or from open_clip.

    open_clip keeps query, key and value in one matrix and multiplies by its projections from the right. Raises
    ValueError for a key of an open_clip state dict that is not known.
    """
    if "visual.conv1.weight" not in state:
        return state
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        if key == "attn_mask":
            # the causal mask, which some exports wrote down
            continue
        if key in _PROJECTIONS:
            converted[_PROJECTIONS[key]] = value.t().contiguous()
        elif block := _RESBLOCK.fullmatch(key):
            tower = "vision_model" if block[1] else "text_model"
            converted |= _block(f"{tower}.encoder.layers.{block[2]}", block[3], key, value)
        else:
            converted[_renamed(key, _OUTSIDE, key)] = value
    return converted


def _block(layer: str, inside: str, key: str, value: Tensor) -> dict[str, Tensor]:
    if inside.startswith("attn.in_proj_"):
        kind = inside.removeprefix("attn.in_proj_")
        parts = zip(("q_proj", "k_proj", "v_proj"), torch.chunk(value, 3), strict=True)
        # whole copies, so that assigning a part does not keep the other two alive
        return {f"{layer}.self_attn.{name}.{kind}": part.contiguous().clone() for name, part in parts}
    return {f"{layer}.{_renamed(inside, _BLOCK, key)}": value}


_BLIP = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
_BLIP_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_VIT_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def blip_vision_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A BLIP vision tower's state dict (timm's names) under transformers' names; ValueError for an unknown key."""
    converted = {}
    for key, value in state.items():
        if block := _VIT_BLOCK.fullmatch(key):
            converted[f"encoder.layers.{block[1]}.{_renamed(block[2], _BLIP_BLOCK, key)}"] = value
        else:
            converted[_renamed(key, _BLIP, key)] = value
    return converted


def without_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of `state` whose keys begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _renamed(name: str, names: dict[str, str], key: str) -> str:
    """`name`, or `name` without its last part (weight, bias), as `names` has it."""
    if name in names:
        return names[name]
    stem, _, last = name.rpartition(".")
    if stem not in names or last not in ("weight", "bias"):
        raise ValueError(f"key {key} is none of this layout's")
    return f"{names[stem]}.{last}"
