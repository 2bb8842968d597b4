"""Attention kernels: SDPA unless xformers is asked for, and a clear error where it cannot be had."""

from importlib.util import find_spec
from typing import Literal

import torch
from torch import nn


def set_attention(denoiser: nn.Module, kernels: Literal["sdpa", "xformers"], device: torch.device) -> None:
    """Switches the denoiser to `kernels` on `device`; before a reference is made of it, so that both run the same.

    ValueError, with what can be had, for a wish that cannot be met: xformers imports anywhere but computes attention on
    CUDA alone, and not every family has a form for it.
    """
    if kernels == "sdpa":
        return
    if device.type != "cuda":
        raise ValueError(f"loop.attention=xformers needs CUDA, this run is on {device.type}; use loop.attention=sdpa")
    if find_spec("xformers") is None:
        raise ValueError(
            'loop.attention=xformers, but xformers is not installed: pip install "seppo[gpu]", or use sdpa'
        )
    if not hasattr(denoiser, "enable_xformers_memory_efficient_attention"):
        raise ValueError(f"{type(denoiser).__name__} has no form for xformers; use loop.attention=sdpa")
    denoiser.enable_xformers_memory_efficient_attention()
