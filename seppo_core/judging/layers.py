"""Pieces shared by the rebuilt networks."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seppo_core.judging.weights import fill, read_tensors


class FrozenNorm(nn.Module):
    """Batch normalisation by stored statistics, for pictures and clips: (x - mean) / sqrt(variance + eps) · w + b."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def load_into(model: nn.Module, path: Path) -> nn.Module:
    """Fills a `model` built on the meta device from a file of tensors; every name and shape has to fit (ValueError)."""
    return fill_without_counters(model, read_tensors(path), str(path))


def fill_without_counters(model: nn.Module, state: Mapping[str, Tensor], source: str) -> nn.Module:
    """`fill` in float32; batch normalisation's step counters, which some files carry, say nothing and are left out."""
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    return fill(model, kept, source, torch.float32)
