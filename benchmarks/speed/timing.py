"""Times variants in turn, A B A B …, so that whatever else the machine does falls on all of them alike."""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    held: Callable[[], Iterable[Tensor]] = tuple
    """What it keeps in memory between two calls: weights, reference, moments, batch."""
    units: int = 1
    """How many updates one call of `run` does; times are those of one."""
    counted: float | None = None
    """The ratio to the baseline that forward passes alone would give, a backward counted as two."""
    note: str = ""


@dataclass
class Times:
    """Seconds of one variant's calls, per unit, in the order of the rounds."""

    variant: Variant
    seconds: list[float] = field(default_factory=list)
    first: float | None = None
    """The very first call, in which kernels are chosen and graphs are compiled; not among `seconds`."""


@dataclass(frozen=True)
class Timer:
    """Reads `clock` only when the device has done what it was given."""

    clock: Callable[[], float] = time.perf_counter
    synchronize: Callable[[], object] = nothing

    def __call__(self, variant: Variant) -> float:
        """Seconds of one call of the variant, per unit."""
        variant.before()
        self.synchronize()
        began = self.clock()
        variant.run()
        self.synchronize()
        return (self.clock() - began) / variant.units


def interleave(times: Sequence[Times], rounds: int, warmup: int, timer: Timer) -> Iterator[Times]:
    """Calls all variants in their order, `warmup` rounds that do not count and `rounds` that do.

    Yields the one that is to be called next, so that whoever iterates can show it, and stop. A variant that is taken
    out of `times` meanwhile is called no more. Garbage is collected between rounds, never within a call.
    """
    for number in range(warmup + rounds):
        gc.collect()
        for one in list(times):
            if one not in times:
                continue
            yield one
            with _without_garbage_collection():
                seconds = timer(one.variant)
            if one.first is None:
                one.first = seconds
            if number >= warmup:
                one.seconds.append(seconds)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
