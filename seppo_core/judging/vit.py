"""DINO's ViT-B/16 (Caron et al. 2021) under the names of `dino_vitbase16_pretrain.pth`."""

import re

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

PATCH, GRID = 16, 14


class Attention(nn.Module):
    """Self-attention with one matrix for query, key and value."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        seen = F.scaled_dot_product_attention(query, key, value)
        return self.proj(rearrange(seen, "b h n d -> b n (h d)"))


class Block(nn.Module):
    """A pre-norm transformer block with exact GELU."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class DinoViT(nn.Module):
    """Pictures (b, 3, h, w) of any size from 16 pixels on, ImageNet-normalised, to the class token's features (b, 768).

    85.8 million parameters. Smaller sizes are for tests.
    """

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        patches = self.patch_embed["proj"](x)
        tokens = rearrange(patches, "b d h w -> b (h w) d")
        y = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self._positions(*patches.shape[-2:])
        for block in self.blocks:
            y = block(y)
        return self.norm(y)[:, 0]

    def _positions(self, height: int, width: int) -> Float[Tensor, "1 n d"]:
        """Learned on 14 × 14 patches, stretched to others. DINO stretches by a factor for 0.1 of a patch more."""
        if (height, width) == (GRID, GRID):
            return self.pos_embed
        grid = rearrange(self.pos_embed[:, 1:], "1 (h w) d -> 1 d h w", h=GRID)
        factors = ((height + 0.1) / GRID, (width + 0.1) / GRID)
        stretched = F.interpolate(grid, scale_factor=factors, mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], rearrange(stretched, "1 d h w -> 1 (h w) d")], 1)


_OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
_ATTENTION = "attention.attention."


def dino_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under DINO's names, whether it came from there or from transformers' ViT files.

    Raises ValueError for a key of a transformers file that is not known. Its pooler is left out: DINO has none.
    """
    if "embeddings.cls_token" not in state:
        return state
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("pooler."):
            continue
        if layer := _LAYER.fullmatch(key):
            number, inside, kind = layer.groups()
            if inside == f"{_ATTENTION}query":
                stem = key.removesuffix(f"query.{kind}")
                parts = [state[f"{stem}{name}.{kind}"] for name in ("query", "key", "value")]
                converted[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat(parts)
            elif inside in _BLOCK:
                converted[f"blocks.{number}.{_BLOCK[inside]}.{kind}"] = value
            elif inside not in (f"{_ATTENTION}key", f"{_ATTENTION}value"):
                raise ValueError(f"key {key} is none of a ViT's")
        elif key in _OUTSIDE:
            converted[_OUTSIDE[key]] = value
        elif key.rpartition(".")[0] in _OUTSIDE:
            stem, _, kind = key.rpartition(".")
            converted[f"{_OUTSIDE[stem]}.{kind}"] = value
        else:
            raise ValueError(f"key {key} is none of a ViT's")
    return converted
