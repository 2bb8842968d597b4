"""What recomputation of activations starts from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seppo_core.models.adapter import Adapter
from seppo_core.models.blocks import blocks


@contextmanager
def recording_inputs(adapter: Adapter) -> Iterator[dict[int, int]]:
    """Context that yields the bytes of what recomputation starts from: tensors that blocks are called with while
    gradients are on, by storage, which stays alive meanwhile. A UNet has no blocks that are recomputed whole."""
    sizes: dict[int, int] = {}

    def record(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled():
            storages = [one.untyped_storage() for one in arguments if isinstance(one, Tensor)]
            sizes.update({storage._cdata: storage.nbytes() for storage in storages})

    rows = [] if adapter.component == "unet" else blocks(adapter.denoiser)
    handles = [block.register_forward_pre_hook(record) for block in rows]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()
