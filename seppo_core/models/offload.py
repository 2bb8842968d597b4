"""Keeps the frozen weights of a model's blocks in CPU memory and brings each block to the device when it computes.

diffusers' group offloading does not serve training: it moves a block's LoRA away from its gradients, and fetches blocks
ahead in the order of the forward pass alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from seppo_core.models.blocks import blocks


class OffloadedBlocks:
    """Moves the blocks of a denoiser in and out; at most two are on the device, the one that computes and the next.

    Only weights that are frozen and known now are moved: those of a LoRA stay on the device. A backward pass needs
    checkpointed blocks, since a block's weights are those that its recomputed forward pass saw.
    """

    def __init__(self, denoiser: nn.Module, device: torch.device):
        self.device = device
        self.blocks = [_Block(block, device) for block in blocks(denoiser)]
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        for number, block in enumerate(blocks(denoiser)):
            block.register_forward_pre_hook(self._entering(number))
            block.register_forward_hook(self._left(number))

    def _entering(self, number: int) -> Callable[..., None]:
        return lambda module, arguments: self._need(number)

    def _left(self, number: int) -> Callable[..., None]:
        def left(module: nn.Module, arguments: object, results: Tensor | tuple[Tensor, ...]) -> None:
            for result in results if isinstance(results, tuple) else (results,):
                # what asks for weights in the backward pass before the block is recomputed
                if isinstance(result, Tensor) and result.requires_grad:
                    result.register_hook(lambda gradient: self._need(number))

        return left

    def _need(self, number: int) -> None:
        """Has block `number` on the device, begins to fetch the one after it, and lets go of all others."""
        # the number of the graph task is -1 outside of a backward pass, which runs through the blocks from the last on
        following = number + (1 if torch._C._current_graph_task_id() == -1 else -1)
        for other, block in enumerate(self.blocks):
            if other not in (number, following):
                block.drop()
        self.blocks[number].fetch(self.stream)
        self.blocks[number].wait()
        if self.stream is not None and 0 <= following < len(self.blocks):
            self.blocks[following].fetch(self.stream)


class _Block:
    """The frozen weights of one block; while they are away the module has empty ones, which no pass can use unseen."""

    def __init__(self, module: nn.Module, device: torch.device):
        self.device = device
        self.places = [place for p in module.parameters() if not p.requires_grad for place in stored(p)]
        pinned = device.type == "cuda"
        now = [getattr(*place) for place in self.places]
        self.held = [one.cpu().pin_memory() if pinned else one.cpu() for one in now]
        self.empty = [torch.empty(0, dtype=one.dtype, device=device) for one in now]
        self.there = True
        self.arrived: torch.cuda.Event | None = None
        self.drop()

    def fetch(self, stream: "torch.cuda.Stream | None") -> None:
        """Begins to copy the weights to the device, on `stream`, unless they are there."""
        if self.there:
            return
        self.there = True
        with torch.cuda.stream(stream):
            self._put([held.to(self.device, non_blocking=True, copy=True) for held in self.held])
        if stream is not None:
            self.arrived = stream.record_event()

    def wait(self) -> None:
        """Makes what is computed from now on wait until the weights have arrived."""
        if self.arrived is None:
            return
        now = torch.cuda.current_stream(self.device)
        now.wait_event(self.arrived)
        for place in self.places:
            # their memory was given out on the other stream, and must not be given away while this one computes
            getattr(*place).record_stream(now)
        self.arrived = None

    def drop(self) -> None:
        """Frees the weights' memory on the device; they have not changed, so that nothing is copied back."""
        if not self.there:
            return
        self.there, self.arrived = False, None
        self._put(self.empty)

    def _put(self, tensors: list[Tensor]) -> None:
        for place, tensor in zip(self.places, tensors, strict=True):
            setattr(*place, tensor)


def stored(parameter: nn.Parameter) -> list[tuple[object, str]]:
    """Where the numbers of a parameter are kept, as objects and names of their attributes: its own, or the parts of the
    form that model.quantize put it into."""
    if is_traceable_wrapper_subclass(parameter):
        # torchao's
        return [(parameter, name) for name in parameter.__tensor_flatten__()[0]]
    places: list[tuple[object, str]] = [(parameter, "data")]
    if (state := vars(parameter).get("quant_state")) is not None:
        # bitsandbytes' in 4 bits: a scale for every 64 numbers, and one for every 256 of these
        places += [(state, "absmax"), (state.state2, "absmax")]
    return places
