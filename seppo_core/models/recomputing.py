"""Recomputes activations in the backward pass instead of keeping them (gradient checkpointing)."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

Recompute = Callable[..., Any]
"""Calls a module with its arguments so that its activations are made again in the backward pass."""


def recomputed(module: nn.Module, *arguments: Any) -> Any:
    """Gradient checkpointing as diffusers does it."""
    return checkpoint(module.__call__, *arguments, use_reentrant=False)


def recompute(denoiser: nn.Module, share: float = 1.0, how: Recompute = recomputed) -> None:
    """Turns gradient checkpointing on for a `share` of the parts that `denoiser` recomputes, evenly spread over them in
    the order of the forward pass. The others keep their activations; results are the same."""
    numbers: dict[nn.Module, int] = {}

    def part(module: nn.Module, *arguments: Any) -> Any:
        number = numbers.setdefault(module, len(numbers))
        chosen = math.floor((number + 1) * share) > math.floor(number * share)
        return how(module, *arguments) if chosen else module(*arguments)

    denoiser.enable_gradient_checkpointing(how if share == 1 else part)
