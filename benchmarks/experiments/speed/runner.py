"""Runs comparisons one after the other, shows how far they are, and keeps what was measured whatever happens."""

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

import torch

from benchmarks.experiments.speed.bench import Comparison, Left, Prepared, Stage, Unavailable
from benchmarks.experiments.speed.measuring import Memory, Timer, Times, garbage_collected, interleaved, measure_memory
from benchmarks.experiments.speed.report import Result, measured
from seppo_core.config.messages import first_line
from seppo_core.report.status_line import StatusLines
from seppo_core.run.eta import clock


class Progress:
    """Redraws one line on a terminal; elsewhere prints one now and then. `total` counts comparisons."""

    def __init__(self, total: int, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic):
        self.total, self.now = total, now
        self.line = StatusLines(stream or sys.stdout, live=0.2, plain=20.0, now=now)
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
    """The result in one line, for the terminal."""
    said = [f"{one.name} {one.ratio.value:.2f}" for one in result.variants[1:]]
    if said:
        said = [f"against {result.variants[0].name}: " + ", ".join(said)]
    said += [f"{'FAILED' if one.failed else 'skipped'} {one.name} ({one.reason})" for one in result.left]
    return "; ".join(said) or "nothing was measured"


OUT_OF_MEMORY = "it does not fit this device's memory; try a smaller --batch, another size, or --tune lora"


@dataclass
class Runner:
    """`rounds` count, after `warmup` that do not. `keep` is given every result as soon as there is one."""

    rounds: int
    warmup: int
    timer: Timer
    progress: Progress
    keep: Callable[[Result], None]
    clock: Callable[[], float] = time.monotonic

    def run(self, comparison: Comparison, stage: Stage, subject: str) -> None:
        """Measures one comparison. KeyboardInterrupt goes on up once what there is was kept."""
        self.progress.begin(f"{stage.subject.title}, {comparison.name}")
        run = _Run(self, comparison, subject, self.clock())
        with warnings.catch_warnings():
            # torch says of each kernel that it may not take why it is not taken
            warnings.filterwarnings("ignore", ".*(kernel not used because|has been runtime disabled)")
            try:
                run.measure(stage)
            except KeyboardInterrupt:
                if run.times and run.times[0].seconds:
                    self.keep(run.result())
                raise
        result = run.result()
        self.keep(result)
        self.progress.end(result)


@dataclass
class _Run:
    """One comparison under way."""

    runner: Runner
    comparison: Comparison
    subject: str
    began: float
    times: list[Times] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    memory: dict[str, Memory | None] = field(default_factory=dict)

    def measure(self, stage: Stage) -> None:
        try:
            prepared = self.comparison.make(stage)
        except Exception as error:
            self.left.append(_left(self.comparison.name, error))
            stage.clear()
            return
        self.left += prepared.left
        self.times = [Times(variant) for variant in prepared.variants]
        try:
            with garbage_collected():
                self._time(prepared)
            self.memory = {one.variant.name: measure_memory(one.variant, stage.device) for one in self.times}
            self.remarks = prepared.remarks(self.times)
        except Exception as error:
            self.left.append(_left(self.comparison.name, error))
            stage.clear()
        finally:
            prepared.close()

    def _time(self, prepared: Prepared) -> None:
        runner = self.runner
        rounds = runner.warmup + runner.rounds
        calls = rounds * len(self.times)
        baseline = prepared.variants[0].name
        for done, (number, one) in enumerate(interleaved(self.times, rounds)):
            runner.progress.call(done, calls, one.variant.name)
            try:
                seconds = runner.timer(one.variant)
            except Exception as error:
                self.left.append(_left(one.variant.name, error))
                self.times.remove(one)
                if one.variant.name == baseline:
                    rest = [other.variant.name for other in self.times]
                    self.left += [Left(name, f"there is no {baseline} to hold it against") for name in rest]
                    self.times.clear()
                # what the failed call made is let go before the next one asks for memory
                error.__traceback__ = None
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            one.first = seconds if one.first is None else one.first
            if number >= runner.warmup:
                one.seconds.append(seconds)

    def result(self) -> Result:
        c, runner = self.comparison, self.runner
        return Result(
            c.name, c.title, c.question, self.subject, runner.rounds, runner.warmup, measured(self.times, self.memory),
            tuple(self.left), tuple(self.remarks), runner.clock() - self.began,
        )  # fmt: skip


def _left(name: str, error: Exception) -> Left:
    if isinstance(error, Unavailable):
        return Left(name, str(error))
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Left(name, OUT_OF_MEMORY)
    return Left(name, f"{type(error).__name__}: {first_line(error)}", failed=True)
