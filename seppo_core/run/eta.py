"""Estimates the time left of a run from its updates and samples so far. Without torch."""

import math
from statistics import median

RECENT = 50


class TimeLeft:
    """Measures the seconds of the latest updates and of generating a sample."""

    def __init__(self, total: int, per_iteration: int, samples_per_iteration: int, drawn: int | None = None):
        """`samples_per_iteration` is 0 for methods that generate none; `drawn` is the number of all, if later
        iterations use those of earlier ones again."""
        self.total, self.per_iteration, self.samples_per_iteration = total, per_iteration, samples_per_iteration
        self.drawn = drawn
        self._updates: list[float] = []
        self._waits: list[float | None] = []
        self._samples = self._sampling = 0.0

    def update(self, seconds: float, waited: float | None = None) -> None:
        """`waited` is the part of `seconds` spent waiting for batches; None if unknown."""
        self._updates = [*self._updates[1 - RECENT :], seconds]
        self._waits = [*self._waits[1 - RECENT :], waited]

    def samples(self, count: int, seconds: float) -> None:
        self._samples += count
        self._sampling += seconds

    def samples_of(self, iterations: range) -> int:
        """Samples that these iterations generate."""
        size = self.samples_per_iteration
        first, last = (bound * size for bound in (iterations.start, iterations.stop))
        return last - first if self.drawn is None else max(0, min(last, self.drawn) - first)

    @property
    def seconds_per_update(self) -> float | None:
        return median(self._updates) if self._updates else None

    @property
    def data_share(self) -> float | None:
        """Share of the latest updates' time spent waiting for batches."""
        known = [(wait, seconds) for wait, seconds in zip(self._waits, self._updates, strict=True) if wait is not None]
        return sum(wait for wait, _ in known) / sum(seconds for _, seconds in known) if known else None

    def left(self, done: int, missing: int = 0) -> float | None:
        """Seconds to the end after `done` updates, with `missing` samples of the current iteration to generate first.

        None before anything was measured.
        """
        if done >= self.total:
            return 0.0
        if self.seconds_per_update is None:
            return None
        following = math.ceil(done / self.per_iteration)
        if missing and done % self.per_iteration == 0:
            following += 1
        samples = missing + self.samples_of(range(following, self.total // self.per_iteration))
        per_sample = self._sampling / self._samples if self._samples else 0.0
        return (self.total - done) * self.seconds_per_update + samples * per_sample


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 under an hour, or 2 d 3:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    short = f"{hours}:{minutes:02}:{rest:02}" if hours or days else f"{minutes}:{rest:02}"
    return f"{days} d {short}" if days else short
