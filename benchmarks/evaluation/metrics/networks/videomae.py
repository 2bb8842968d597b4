"""VideoMAE V2's ViT-g (Wang et al. 2023), named as in `vit_g_hybrid_pt_1200e_ssv2_ft.pth`, without its classes."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SIDE, PATCH, FRAMES, TUBELET = 224, 14, 16, 2
EPS = 1e-6


class Attention(nn.Module):
    """Self-attention with one matrix for all three, and biases for query and value alone, as BEiT has them."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        mixed = F.linear(x, self.qkv.weight, bias)
        query, key, value = rearrange(mixed, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        seen = F.scaled_dot_product_attention(query, key, value)
        return self.proj(rearrange(seen, "b h n d -> b n (h d)"))


class Block(nn.Module):
    """A pre-norm transformer block with exact GELU."""

    def __init__(self, width: int, heads: int, inner: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class VideoMAE(nn.Module):
    """Clips (b, 3, 16, 224, 224) in [0, 1] to the mean of all tokens, normalised: (b, 1408).

    1.01 billion parameters. Smaller sizes are for tests.
    """

    def __init__(
        self, width: int = 1408, depth: int = 40, heads: int = 16, inner: int = 6144, side: int = SIDE,
        frames: int = FRAMES,
    ):  # fmt: skip
        super().__init__()
        kernel = (TUBELET, PATCH, PATCH)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, width, kernel, kernel)})
        self.blocks = nn.ModuleList(Block(width, heads, inner) for _ in range(depth))
        self.fc_norm = nn.LayerNorm(width, eps=EPS)
        self.shape = (3, frames, side, side)

    def forward(self, x: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b d"]:
        """ValueError for clips of another length or size: the positions are made for one."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"clips of shape {tuple(x.shape[1:])}; VideoMAE takes {self.shape}")
        tokens = rearrange(self.patch_embed["proj"](x), "b d f h w -> b (f h w) d")
        y = tokens + positions(*tokens.shape[1:]).to(tokens)
        for block in self.blocks:
            y = block(y)
        return self.fc_norm(y.mean(1))


def positions(count: int, width: int) -> Float[Tensor, "1 n d"]:
    """Fixed sine and cosine positions of the tokens in their order, frequencies from 1 to 1/10000."""
    place = torch.arange(count, dtype=torch.float64)[:, None]
    pair = torch.arange(width) // 2
    angle = place / 10000 ** (2 * pair.double() / width)
    even = torch.arange(width) % 2 == 0
    return torch.where(even, angle.sin(), angle.cos()).float()[None]


def videomae_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict without the classes, which no feature comes from."""
    return {key: value for key, value in state.items() if not key.startswith("head.")}
