"""Attention kernels: SDPA unless xformers is asked for, and a clear error if it is not available."""

from importlib.util import find_spec
from typing import Literal

import torch

from seppo_core.models.adapter import Adapter

Kernels = Literal["sdpa", "xformers"]


def set_attention(adapter: Adapter, kernels: Kernels, device: torch.device) -> None:
    """Switches the denoiser to `kernels` on `device`; before a reference is made of it, so that both run the same.

    ValueError for a wish that cannot be met (`check_attention`). Nothing is switched then.
    """
    check_attention(type(adapter), kernels, device)
    if kernels == "xformers":
        adapter.denoiser.enable_xformers_memory_efficient_attention()


def check_attention(kind: type[Adapter], kernels: Kernels, device: torch.device) -> None:
    """ValueError, with what can be had, if a denoiser of `kind` cannot have `kernels` on `device`.

    xformers imports anywhere but computes attention on CUDA alone, and not that of every family (`Adapter.xformers`).
    """
    if kernels == "sdpa":
        return
    # first what no machine mends
    if not kind.xformers:
        raise ValueError(
            f"loop.attention=xformers cannot compute the attention of {kind.__name__}, which has masks, positions, "
            "norms or a linear form of its own; use loop.attention=sdpa"
        )
    if device.type != "cuda":
        raise ValueError(f"loop.attention=xformers needs CUDA, this run is on {device.type}; use loop.attention=sdpa")
    if find_spec("xformers") is None:
        raise ValueError(
            'loop.attention=xformers, but xformers is not installed: pip install "seppo[gpu]", or use sdpa'
        )
