"""Random draws keyed by their purpose, so that no draw depends on rank, accumulation or earlier draws."""

from hashlib import blake2b

import torch
from torch import Generator, Tensor


def keyed_generator(*key: int | str) -> Generator:
    """A CPU generator seeded by the key alone, e.g. `keyed_generator(seed, purposes.DRAWS, update, index)`.

    The same key gives the same numbers in any process, at any time, on any device count: this is what makes a resumed
    run exact and N processes equal one.
    """
    digest = blake2b(repr(key).encode(), digest_size=8).digest()
    # manual_seed takes a signed 64-bit integer; 63 bits keep it positive
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def keyed_normal(shape: tuple[int, ...] | torch.Size, *key: int | str) -> Tensor:
    """Unit normal noise of `shape`, float32 on the CPU, from the key alone."""
    return torch.randn(shape, generator=keyed_generator(*key))


def keyed_permutation(length: int, *key: int | str) -> Tensor:
    """A permutation of 0..length-1, (length,), from the key alone."""
    return torch.randperm(length, generator=keyed_generator(*key))
