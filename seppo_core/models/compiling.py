"""Compiles the blocks that a denoiser repeats, each by itself (regional compilation): a graph serves all of a kind."""

import os
import shutil

from torch import nn

from seppo_core.config.training import Backend
from seppo_core.models.blocks import blocks

GRAPHS = 128
"""Graphs that one kind of block may have: for each width, each LoRA, with and without gradient, for each kind of batch.
torch's own limit of 8 is one of a model, beyond which it goes on uncompiled."""
COMPILERS = ("cc", "gcc", "clang", "c++", "g++", "cl")


def check_compiler(backend: Backend | None) -> None:
    """Raises ValueError if `backend` builds kernels for which this machine has no compiler."""
    named = [os.environ.get("CC"), os.environ.get("CXX")]
    if backend == "inductor" and not any(map(shutil.which, [*filter(None, named), *COMPILERS])):
        raise ValueError(
            f"loop.compile={backend} needs a C compiler, and PATH has none ({', '.join(COMPILERS)}); install one, or "
            "leave it out"
        )


def repeated_blocks(denoiser: nn.Module) -> list[nn.Module]:
    """The blocks that diffusers compiles by itself (`compile_repeated_blocks`), where the model's class names them;
    else the transformer blocks of a UNet, or the model's own row of blocks. One that has a row of blocks within stands
    for these, which shards and offloading gather and fetch one by one."""
    names = {*denoiser._repeated_blocks} or {"BasicTransformerBlock"}
    row = blocks(denoiser)
    found = []
    for part in denoiser.modules():
        # by the names of base classes too: sharding makes each block an object of a new class
        if names & {kind.__name__ for kind in type(part).__mro__}:
            within = {*part.modules()} - {part}
            found += [block for block in row if block in within] or [part]
    return found or row


def compile_blocks(denoiser: nn.Module, backend: Backend) -> None:
    """Compiles the `repeated_blocks` of `denoiser` in place. Names of weights stay what they are.

    Once a size differs from that of the first pass, torch makes graphs that take any.
    """
    # seconds to import, and only needed here
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    for block in repeated_blocks(denoiser):
        # the pass alone, not the call: hooks that gather or fetch a block's weights stay outside of its graph
        block.forward = torch.compile(block.forward, backend=backend)
