"""What a person sees meanwhile: which variant is being timed, and how long it all still takes."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from benchmarks.experiments.speed.results import Result
from benchmarks.experiments.status_line import StatusLine
from seppo_core.run.eta import clock


class Progress:
    """Redraws one line on a terminal; elsewhere prints one now and then. `total` counts comparisons."""

    def __init__(self, total: int, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic):
        self.total, self.now = total, now
        self.line = StatusLine(stream or sys.stdout, live=0.2, plain=20.0, now=now)
        self.spent: list[float] = []
        self._began = now()
        self._title = ""

    def begin(self, title: str) -> None:
        self._title, self._began = title, self.now()
        self.line.show(f"{self._head()}: getting ready{self._tail(None)}")

    def call(self, done: int, total: int, variant: str) -> None:
        """Before call `done` (0-based) of the comparison's `total`, the warm-up counted."""
        if self.line.is_due():
            self.line.show(f"{self._head()}: {variant}, {done + 1}/{total}{self._tail(done / total)}")

    def end(self, result: Result) -> None:
        """Leaves a line that says what came out."""
        if result.variants:
            self.spent.append(self.now() - self._began)
        else:
            # what takes no time says nothing of the others
            self.total -= 1
        self.line.say(f"{self._title}: {outcome(result)}")

    def left(self, share: float | None) -> float | None:
        """Seconds to the end, `share` of the current comparison being done; None before anything is known."""
        spent = self.now() - self._began
        current = spent / share if share else None
        known = [*self.spent, *([current] if current is not None else [])]
        if not known:
            return None
        usual = sum(known) / len(known)
        after = self.total - len(self.spent) - 1
        return max(0.0, (usual if current is None else current) - spent) + max(0, after) * usual

    def _head(self) -> str:
        return f"{len(self.spent) + 1}/{self.total} {self._title}"

    def _tail(self, share: float | None) -> str:
        left = self.left(share)
        return "" if left is None else f", about {clock(left)} left"


def outcome(result: Result) -> str:
    """In one line, for the terminal."""
    said = [f"{one.name} {one.ratio.value:.2f}" for one in result.variants[1:]]
    if said:
        said = [f"against {result.variants[0].name}: " + ", ".join(said)]
    said += [f"{'FAILED' if one.failed else 'skipped'} {one.name} ({one.reason})" for one in result.left]
    return "; ".join(said) or "nothing was measured"
