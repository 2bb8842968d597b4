"""Names and shapes of the published checkpoints, written down from the architectures, and random weights in them."""

from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Clip:
    """Sizes of an open_clip model; heads only matter to the forward pass."""

    embed: int
    width: int
    layers: int
    heads: int
    patch: int
    image: int
    text_width: int
    text_layers: int
    text_heads: int
    vocabulary: int = 49408
    context: int = 77
    quick_gelu: bool = False


VIT_H_14 = Clip(1024, 1280, 32, 16, 14, 224, 1024, 24, 16)
VIT_L_14 = Clip(768, 1024, 24, 16, 14, 224, 768, 12, 12, quick_gelu=True)
TINY = Clip(embed=12, width=24, layers=2, heads=3, patch=8, image=32, text_width=16, text_layers=2, text_heads=2)


def clip_shapes(clip: Clip) -> Shapes:
    """An open_clip state dict."""
    grid = clip.image // clip.patch
    return {
        "positional_embedding": (clip.context, clip.text_width),
        "text_projection": (clip.text_width, clip.embed),
        "logit_scale": (),
        "visual.class_embedding": (clip.width,),
        "visual.positional_embedding": (grid * grid + 1, clip.width),
        "visual.proj": (clip.width, clip.embed),
        "visual.conv1.weight": (clip.width, 3, clip.patch, clip.patch),
        **_pair("visual.ln_pre", clip.width),
        **_blocks("visual.transformer", clip.width, clip.layers),
        **_pair("visual.ln_post", clip.width),
        **_blocks("transformer", clip.text_width, clip.text_layers),
        "token_embedding.weight": (clip.vocabulary, clip.text_width),
        **_pair("ln_final", clip.text_width),
    }


@dataclass(frozen=True)
class Blip:
    """Sizes of ImageReward's BLIP; `joint` is the width of contrastive projections that are stored and not used."""

    width: int
    layers: int
    heads: int
    patch: int
    image: int
    text_width: int
    text_layers: int
    text_heads: int
    text_hidden: int
    vocabulary: int
    context: int = 512


IMAGE_REWARD = Blip(1024, 24, 16, 16, 224, 768, 12, 12, 3072, 30524)


def blip_shapes(blip: Blip) -> Shapes:
    """ImageReward's state dict."""
    grid = blip.image // blip.patch
    vision: Shapes = {
        "cls_token": (1, 1, blip.width),
        "pos_embed": (1, grid * grid + 1, blip.width),
        "patch_embed.proj.weight": (blip.width, 3, blip.patch, blip.patch),
        "patch_embed.proj.bias": (blip.width,),
        **_pair("norm", blip.width),
    }
    for n in range(blip.layers):
        vision |= _pair(f"blocks.{n}.norm1", blip.width) | _pair(f"blocks.{n}.norm2", blip.width)
        vision |= _linear(f"blocks.{n}.attn.qkv", blip.width, 3 * blip.width)
        vision |= _linear(f"blocks.{n}.attn.proj", blip.width, blip.width)
        vision |= _linear(f"blocks.{n}.mlp.fc1", blip.width, 4 * blip.width)
        vision |= _linear(f"blocks.{n}.mlp.fc2", 4 * blip.width, blip.width)
    width = blip.text_width
    text: Shapes = {
        "embeddings.position_ids": (1, blip.context),
        "embeddings.word_embeddings.weight": (blip.vocabulary, width),
        "embeddings.position_embeddings.weight": (blip.context, width),
        **_pair("embeddings.LayerNorm", width),
    }
    for n in range(blip.text_layers):
        layer = f"encoder.layer.{n}"
        for attention, source in (("attention", width), ("crossattention", blip.width)):
            text |= _linear(f"{layer}.{attention}.self.query", width, width)
            text |= _linear(f"{layer}.{attention}.self.key", source, width)
            text |= _linear(f"{layer}.{attention}.self.value", source, width)
            text |= _linear(f"{layer}.{attention}.output.dense", width, width)
            text |= _pair(f"{layer}.{attention}.output.LayerNorm", width)
        text |= _linear(f"{layer}.intermediate.dense", width, blip.text_hidden)
        text |= _linear(f"{layer}.output.dense", blip.text_hidden, width)
        text |= _pair(f"{layer}.output.LayerNorm", width)
    return {
        **{f"blip.visual_encoder.{key}": shape for key, shape in vision.items()},
        **{f"blip.text_encoder.{key}": shape for key, shape in text.items()},
        **_linear("blip.vision_proj", blip.width, 256),
        **_linear("blip.text_proj", width, 256),
        **{f"mlp.{key}": shape for key, shape in head_shapes(width).items()},
    }


def head_shapes(width: int) -> Shapes:
    """The MLP of ImageReward and of LAION's aesthetic predictor; dropouts take the numbers that are left out."""
    sizes = {0: (width, 1024), 2: (1024, 128), 4: (128, 64), 6: (64, 16), 7: (16, 1)}
    return {key: shape for n, size in sizes.items() for key, shape in _linear(f"layers.{n}", *size).items()}


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a size at which every part of the network changes the result; float64."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        if key.endswith("position_ids"):
            state[key] = torch.arange(shape[-1])[None]
            continue
        fan_in = shape[-1] if len(shape) == 2 else 4
        value = torch.randn(shape, generator=generator, dtype=torch.float64) / fan_in**0.5
        # norms scale around one
        is_norm = key.endswith(".weight") and len(shape) == 1
        state[key] = value + 1 if is_norm else value
    if "logit_scale" in state:
        state["logit_scale"] = torch.tensor(100.0, dtype=torch.float64).log()
    return state


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _pair(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _blocks(tower: str, width: int, layers: int) -> Shapes:
    shapes: Shapes = {}
    for n in range(layers):
        block = f"{tower}.resblocks.{n}"
        shapes |= _pair(f"{block}.ln_1", width) | _pair(f"{block}.ln_2", width)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(f"{block}.attn.out_proj", width, width)
        shapes |= _linear(f"{block}.mlp.c_fc", width, 4 * width) | _linear(f"{block}.mlp.c_proj", 4 * width, width)
    return shapes
