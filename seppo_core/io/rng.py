"""Random draws keyed by their purpose, so that no draw depends on rank, accumulation or earlier draws."""

from hashlib import blake2b
from math import prod
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

Draws = Literal[1, 2]
"""How a run's own numbers come from their keys; runs keep the version that they began with. 1: torch's Mersenne
Twister, which takes 32 bits of a key's hash, so that two of some 65 000 keys are likely to draw the same numbers. 2:
Philox (Salmon et al. 2011) under the key's hash of 128 bits."""
NEWEST: Draws = 2


class Stream(Protocol):
    """Numbers of one key, one draw after the other; CPU tensors."""

    def uniform(self, count: int) -> Tensor:
        """(count,) in [0, 1), float64."""
        ...

    def normal(self, shape: tuple[int, ...] | torch.Size) -> Tensor:
        """Unit normal noise of `shape`, float32."""
        ...

    def integer(self, stop: int) -> int:
        """A whole number in 0..stop-1."""
        ...

    def permutation(self, length: int) -> Tensor:
        """A permutation of 0..length-1, (length,), int64."""
        ...


def keyed_stream(draws: Draws, *key: int | str) -> Stream:
    """The numbers of a key, e.g. `keyed_stream(2, seed, purposes.DRAWS, update, index)`, by that version of `Draws`.

    The same key gives the same numbers in any process, at any time, on any device count: this is what makes a resumed
    run exact and N processes equal one.
    """
    return _Torch(keyed_generator(*key)) if draws == 1 else _Philox(*key)


def keyed_generator(*key: int | str) -> Generator:
    """A CPU generator seeded by 63 bits of the key's hash, for what takes torch's generators alone, such as solvers.

    On a CPU torch uses 32 of them; for draws in large numbers there is `keyed_stream`.
    """
    # manual_seed takes a signed 64-bit integer; 63 bits keep it positive
    return torch.Generator().manual_seed(_digest(key, 8) >> 1)


def keyed_normal(shape: tuple[int, ...] | torch.Size, *key: int | str) -> Tensor:
    """Unit normal noise of `shape`, float32 on the CPU, from the key alone; version 1 of `Draws`."""
    return torch.randn(shape, generator=keyed_generator(*key))


def keyed_permutation(length: int, *key: int | str) -> Tensor:
    """A permutation of 0..length-1, (length,), from the key alone; version 1 of `Draws`."""
    return torch.randperm(length, generator=keyed_generator(*key))


def _digest(key: tuple[int | str, ...], size: int) -> int:
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=size).digest(), "little")


class _Torch:
    def __init__(self, generator: Generator):
        self.generator = generator

    def uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator, dtype=torch.float64)

    def normal(self, shape: tuple[int, ...] | torch.Size) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def integer(self, stop: int) -> int:
        return int(torch.randint(stop, (), generator=self.generator))

    def permutation(self, length: int) -> Tensor:
        return torch.randperm(length, generator=self.generator)


class _Philox:
    def __init__(self, *key: int | str):
        self.generator = np.random.Generator(np.random.Philox(key=_digest(key, 16)))

    def uniform(self, count: int) -> Tensor:
        return torch.from_numpy(self.generator.random(count))

    def normal(self, shape: tuple[int, ...] | torch.Size) -> Tensor:
        return torch.from_numpy(self.generator.standard_normal(prod(shape), dtype=np.float32)).view(shape)

    def integer(self, stop: int) -> int:
        return int(self.generator.integers(stop))

    def permutation(self, length: int) -> Tensor:
        return torch.from_numpy(self.generator.permutation(length))
