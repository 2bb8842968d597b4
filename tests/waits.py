"""Counts what makes a program wait for its device: reading a value, and copies that do not begin in pinned memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
READ = {
    aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default, aten.nonzero.default,
    aten.masked_select.default,
}  # fmt: skip


@contextmanager
def waits() -> Iterator[list[str]]:
    """Context that yields a list of what has waited within, in this thread, by name.

    A tensor on the device "meta" has no value, so that reading one raises NotImplementedError; copies between it and
    the CPU are counted.
    """
    found: list[str] = []
    with _Lists(found), _Operations(found):
        yield found


class _Lists(TorchFunctionMode):
    """On a CPU a list is made without an operation."""

    def __init__(self, found: list[str]):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (Tensor.tolist, Tensor.numpy):
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __init__(self, found: list[str]):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        by_mask = func in (aten.index.Tensor, aten.index_put_.default) and any(t.dtype == torch.bool for t in given[1:])
        result = func(*args, **kwargs)
        made = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        copies = func in (aten._to_copy.default, aten.copy_.default)
        moved = copies and len({one.device.type for one in given + made}) > 1 and not kwargs.get("non_blocking")
        if func in READ or by_mask or moved:
            self.found.append(str(func))
        return result
