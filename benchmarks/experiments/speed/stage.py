"""What every comparison is given, and what it gives back."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.experiments.speed.bench import Bench
from benchmarks.experiments.speed.subjects import Subject, Tune
from benchmarks.experiments.speed.timing import Times, Variant, nothing


class Unavailable(Exception):
    """A wish that cannot be met on this machine, with the reason in one line."""


@dataclass(frozen=True)
class Left:
    """A variant, or a whole comparison, that was not measured. `failed` where it should have been possible."""

    name: str
    reason: str
    failed: bool = False


@dataclass
class Prepared:
    """A comparison, ready to be timed."""

    variants: list[Variant]
    """The first is the baseline."""
    left: list[Left] = field(default_factory=list)
    remarks: Callable[[Sequence[Times]], list[str]] = lambda times: []
    """Sentences on what was measured, given the times."""
    close: Callable[[], object] = nothing
    """Brings the bench back to where it was."""


@dataclass
class Stage:
    """The subject on its device, with one bench at a time."""

    subject: Subject
    mode: Tune
    device: torch.device
    precision: str
    sampling_steps: int
    folder: Path
    """For what has to be on the disk meanwhile."""
    named: bool = False
    """Whether comparisons were asked for by name, and may take what they take."""
    _bench: Bench | None = None

    def bench(self, mode: Tune | None = None, precision: str | None = None) -> Bench:
        """The subject tuned in `mode` and computed in `precision`, by default the run's. The last one is kept."""
        mode, precision = mode or self.mode, precision or self.precision
        kept = self._bench
        # trained weights are float32 in any precision, those under a LoRA are not
        if kept is None or kept.mode != mode or (mode == "lora" and kept.built_in != precision):
            kept = None
            self.clear()
            self._bench = Bench(self.subject, mode, precision, self.device)
        self._bench.compute_in(precision)
        return self._bench

    def clear(self) -> None:
        """Lets the bench go, and its memory."""
        self._bench = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Comparison:
    """One idea: what is compared and why one would ask."""

    name: str
    title: str
    question: str
    make: Callable[[Stage], Prepared]
    """Unavailable where nothing of it can be measured here."""
