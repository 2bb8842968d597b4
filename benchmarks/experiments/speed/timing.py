"""Times variants in turn, A B A B …, so that whatever else the machine does falls on all of them alike."""

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor


def nothing() -> None:
    """For variants with nothing to set up, and devices with nothing to wait for."""


@dataclass(frozen=True)
class Variant:
    """One of the things that are held against each other."""

    name: str
    run: Callable[[], object]
    """What is timed."""
    before: Callable[[], object] = nothing
    """What has to be so for it, each time, and is not timed."""
    held: Callable[[], Iterable[Tensor]] | None = None
    """What it keeps in memory between two calls: weights, reference, moments, batch. None where memory is beside the
    point, or cannot be told."""
    units: int = 1
    """How many updates one call of `run` does; times are those of one."""
    counted: float | None = None
    """The ratio to the baseline that forward passes alone would give, a backward counted as two."""
    note: str = ""


@dataclass(eq=False)
class Times:
    """Seconds of one variant's calls, per unit, in the order of the rounds."""

    variant: Variant
    seconds: list[float] = field(default_factory=list)
    first: float | None = None
    """The very first call, in which kernels are chosen and graphs are compiled; not among `seconds`."""


@dataclass(frozen=True)
class Timer:
    """Reads `clock` only when the device has done what it was given. No garbage is collected in between."""

    clock: Callable[[], float] = time.perf_counter
    synchronize: Callable[[], object] = nothing

    def __call__(self, variant: Variant) -> float:
        """Seconds of one call of the variant, per unit."""
        variant.before()
        self.synchronize()
        with _without_garbage_collection():
            began = self.clock()
            variant.run()
            self.synchronize()
            return (self.clock() - began) / variant.units


def interleaved(times: list[Times], rounds: int) -> Iterator[tuple[int, Times]]:
    """Every round's number with each variant in turn: A B C, A B C, …

    One that is taken out of `times` on the way does not come again.
    """
    for number in range(rounds):
        for one in list(times):
            if one in times:
                yield number, one


@contextmanager
def garbage_collected() -> Iterator[None]:
    """Context that begins without garbage, and in which collecting looks at nothing that was there before."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
