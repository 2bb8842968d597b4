"""The two networks derived a second time: plain functions of a checkpoint under its published names, in float64.

Nothing of transformers is used, so that agreement means something.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from tests.benchmarks.scorers.layouts_by_hand import Blip, Clip

State = dict[str, Tensor]


def clip_image(state: State, clip: Clip, pixels: Tensor) -> Tensor:
    """Projected embedding of pictures (n, 3, h, w), not normalised."""
    patches = F.conv2d(pixels, state["visual.conv1.weight"], stride=clip.patch)
    tokens = rearrange(patches, "n c h w -> n (h w) c")
    first = state["visual.class_embedding"].expand(len(tokens), 1, -1)
    x = torch.cat([first, tokens], 1) + state["visual.positional_embedding"]
    x = norm(state, "visual.ln_pre", x)
    for n in range(clip.layers):
        x = clip_block(state, f"visual.transformer.resblocks.{n}", x, clip.heads, clip.quick_gelu, None)
    return norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"]


def clip_text(state: State, clip: Clip, ids: Tensor) -> Tensor:
    """Projected embedding of token ids (n, t), read at the highest id, which is the first end mark."""
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][: ids.shape[1]]
    future = torch.full((ids.shape[1],) * 2, float("-inf"), dtype=x.dtype).triu(1)
    for n in range(clip.text_layers):
        x = clip_block(state, f"transformer.resblocks.{n}", x, clip.text_heads, clip.quick_gelu, future)
    x = norm(state, "ln_final", x)
    return x[torch.arange(len(x)), ids.argmax(-1)] @ state["text_projection"]


def clip_cosine(state: State, clip: Clip, pixels: Tensor, ids: Tensor) -> Tensor:
    image, text = clip_image(state, clip, pixels), clip_text(state, clip, ids)
    return (image * text).sum(-1) / (image.norm(dim=-1) * text.norm(dim=-1))


def clip_block(state: State, name: str, x: Tensor, heads: int, quick: bool, mask: Tensor | None) -> Tensor:
    y = norm(state, f"{name}.ln_1", x)
    weights, biases = state[f"{name}.attn.in_proj_weight"], state[f"{name}.attn.in_proj_bias"]
    query, key, value = (y @ weights.t() + biases).tensor_split(3, -1)
    x = x + linear(state, f"{name}.attn.out_proj", attend(query, key, value, heads, mask))
    y = linear(state, f"{name}.mlp.c_fc", norm(state, f"{name}.ln_2", x))
    y = y * torch.sigmoid(1.702 * y) if quick else exact_gelu(y)
    return x + linear(state, f"{name}.mlp.c_proj", y)


def image_reward(state: State, blip: Blip, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The raw reward: before the authors' mean and deviation."""
    seen = blip_image(state, blip, pixels)
    name = "blip.text_encoder"
    x = state[f"{name}.embeddings.word_embeddings.weight"][ids]
    x = x + state[f"{name}.embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(state, f"{name}.embeddings.LayerNorm", x, 1e-12)
    unseen = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(mask == 0, float("-inf"))[:, None, None, :]
    for n in range(blip.text_layers):
        layer = f"{name}.encoder.layer.{n}"
        x = bert_attention(state, f"{layer}.attention", x, x, blip.text_heads, unseen)
        x = bert_attention(state, f"{layer}.crossattention", x, seen, blip.text_heads, None)
        y = exact_gelu(linear(state, f"{layer}.intermediate.dense", x))
        x = norm(state, f"{layer}.output.LayerNorm", x + linear(state, f"{layer}.output.dense", y), 1e-12)
    return head(state, "mlp.layers", x[:, 0])


def blip_image(state: State, blip: Blip, pixels: Tensor) -> Tensor:
    name = "blip.visual_encoder"
    bias = state[f"{name}.patch_embed.proj.bias"]
    patches = F.conv2d(pixels, state[f"{name}.patch_embed.proj.weight"], bias, stride=blip.patch)
    x = torch.cat(
        [state[f"{name}.cls_token"].expand(len(pixels), -1, -1), rearrange(patches, "n c h w -> n (h w) c")], 1
    )
    x = x + state[f"{name}.pos_embed"]
    for n in range(blip.layers):
        block = f"{name}.blocks.{n}"
        query, key, value = linear(state, f"{block}.attn.qkv", norm(state, f"{block}.norm1", x, 1e-6)).tensor_split(
            3, -1
        )
        x = x + linear(state, f"{block}.attn.proj", attend(query, key, value, blip.heads, None))
        y = exact_gelu(linear(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", x, 1e-6)))
        x = x + linear(state, f"{block}.mlp.fc2", y)
    return norm(state, f"{name}.norm", x, 1e-6)


def bert_attention(state: State, name: str, x: Tensor, source: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    query = linear(state, f"{name}.self.query", x)
    key, value = (linear(state, f"{name}.self.{part}", source) for part in ("key", "value"))
    y = linear(state, f"{name}.output.dense", attend(query, key, value, heads, mask))
    return norm(state, f"{name}.output.LayerNorm", x + y, 1e-12)


def head(state: State, name: str, x: Tensor) -> Tensor:
    """Five linear maps, nothing between them."""
    for n in (0, 2, 4, 6, 7):
        x = linear(state, f"{name}.{n}", x)
    return x[..., 0]


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    query, key, value = (rearrange(x, "n t (h d) -> n h t d", h=heads) for x in (query, key, value))
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = (logits if mask is None else logits + mask).softmax(-1)
    return rearrange(weights @ value, "n h t d -> n t (h d)")


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].t() + state[f"{name}.bias"]


def norm(state: State, name: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def exact_gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2
