"""How a variant is measured: seconds of calls made in turn, ratios with intervals, and peak memory."""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import comb

import numpy as np
import psutil
import torch
from torch import Tensor

from seppo_core.io.lazy import uncollected
from seppo_core.plan.counter import Counter, bytes_of
from seppo_core.report.statistics import Interval


def nothing() -> None:
    """Does nothing: for variants without setup, and devices that need no synchronisation."""


@dataclass(frozen=True)
class Variant:
    """One of the things that are held against each other."""

    name: str
    run: Callable[[], object]
    """The timed function."""
    before: Callable[[], object] = nothing
    """Untimed setup before each call."""
    held: Callable[[], Iterable[Tensor]] | None = None
    """Tensors that it keeps between two calls: weights, reference, moments, batch. None if memory is beside the
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
        with uncollected():
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


CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A sample's median, its interval and quartiles."""

    median: Interval
    """With the bounds of its interval, whose probability is at least `CONFIDENCE` unless the rounds are too few."""
    confidence: float
    """Confidence with which the interval holds the median."""
    quartiles: tuple[float, float]

    @property
    def value(self) -> float:
        return self.median.value

    @property
    def differs(self) -> bool:
        """Whether the interval of a ratio excludes 1."""
        return self.median.low > 1 or self.median.high < 1

    def to_json(self) -> dict[str, float | list[float]]:
        low, high = self.median.low, self.median.high
        quartiles = list(self.quartiles)
        return {"median": self.value, "interval": [low, high], "confidence": self.confidence, "quartiles": quartiles}


def ratio(variant: Sequence[float], baseline: Sequence[float]) -> Spread:
    """Ratio within each round that both have; ValueError if there is none."""
    return spread([one / other for one, other in zip(variant, baseline, strict=False)])


def spread(values: Sequence[float]) -> Spread:
    """Median, quartiles, and the interval between two order statistics (Thompson 1936), which needs no distribution.

    The k-th smallest and k-th largest of n independent values hold the median between them with probability
    1 − 2 P(B < k), B binomial (n, ½); k is the largest for which that is still 95 %. Fewer than six values reach no
    95 %: their range is given, with what it holds.
    """
    if not values:
        raise ValueError("no round was timed; a ratio needs at least one")
    ordered = np.sort(np.asarray(values, dtype=float))
    place, confidence = _place(len(ordered))
    low, high = ordered[place - 1], ordered[len(ordered) - place]
    lower, upper = np.percentile(ordered, [25, 75])
    interval = Interval(float(np.median(ordered)), float(low), float(high))
    return Spread(interval, confidence, (float(lower), float(upper)))


def _place(count: int) -> tuple[int, float]:
    """k, and the probability that the median lies between the k-th smallest and the k-th largest of `count`."""
    place, confidence = 1, 1 - 2 / 2**count
    for candidate in range(2, count // 2 + 1):
        held = 1 - 2 * sum(comb(count, i) for i in range(candidate)) / 2**count
        if held < CONFIDENCE:
            break
        place, confidence = candidate, held
    return place, confidence


GIB = 1024**3


@dataclass(frozen=True)
class Memory:
    """Memory in bytes. `held` stays between two calls; `made` is the most that a call allocates beside it."""

    held: int
    made: int
    allocated: int | None
    """CUDA: the allocator's own peak (`torch.cuda.max_memory_allocated`), what other variants hold included."""

    @property
    def peak(self) -> int:
        """Memory that the variant would need alone."""
        return self.held + self.made

    def to_json(self) -> dict[str, int | None]:
        return {**asdict(self), "peak": self.peak}


def measure_memory(variant: Variant, device: torch.device) -> Memory | None:
    """Calls the variant once more, untimed: by CUDA's allocator, or on a CPU by counting the tensors that are alive.

    Tensors that other threads make are not counted on a CPU. None if the variant does not say what it holds.
    """
    if variant.held is None:
        return None
    variant.before()
    held = list(variant.held())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        variant.run()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        return Memory(bytes_of(held), peak - before, peak)
    with Counter(held) as counter:
        variant.run()
    return Memory(bytes_of(held), counter.peak, None)


def megabytes(count: float) -> str:
    """Bytes as people read them: 12.3 MB, 4.56 GB."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def device_name(device: torch.device) -> str:
    """The name of a GPU; "CPU" else."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def free_memory(device: torch.device) -> int:
    """Bytes of the device's memory that are still free."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
