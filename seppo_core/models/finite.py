"""Finds values that are not finite (NaN, infinity) before they are written, or trained on."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite. Takes one pass and no memory: a sum in float64 shows every value that is not, and
    cannot overflow by itself. Whole numbers always are."""
    if not tensor.is_floating_point():
        return True
    return math.isfinite(float(tensor.detach().sum(dtype=torch.float64)))


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first of `tensors` that holds a value that is not finite; None if all are finite."""
    return next((name for name, tensor in tensors.items() if not is_finite(tensor)), None)


def named_tensors(nest: object, name: str = "") -> Iterable[tuple[str, Tensor]]:
    """The tensors in a nest of dictionaries and lists, each with its path, e.g. "state.3.exp_avg"."""
    if isinstance(nest, Tensor):
        yield name, nest
    elif isinstance(nest, Mapping):
        for key, value in nest.items():
            yield from named_tensors(value, f"{name}.{key}".lstrip("."))
    elif isinstance(nest, list | tuple):
        for number, value in enumerate(nest):
            yield from named_tensors(value, f"{name}.{number}".lstrip("."))
