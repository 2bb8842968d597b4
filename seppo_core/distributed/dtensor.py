"""Tensors that lie in slices on several processes (FSDP2), whole and back."""

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def to_full(tensor: Tensor) -> Tensor:
    """The whole of a sliced tensor, to be asked for on all processes at once; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def to_local(tensor: Tensor) -> Tensor:
    """The part of a sliced tensor that this process holds, in the same memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """`value`, whole on every process, sharded as `like` is if both have one shape, else unchanged."""
    if isinstance(like, DTensor) and torch.is_tensor(value) and value.shape == like.shape:
        # every process holds the same, so that each can cut for itself
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return value
