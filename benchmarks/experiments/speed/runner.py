"""Runs comparisons one after the other, and keeps what was measured whatever happens."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks.experiments.speed.memory import Memory, measure_memory
from benchmarks.experiments.speed.progress import Progress
from benchmarks.experiments.speed.results import Result, measured
from benchmarks.experiments.speed.stage import Comparison, Left, Prepared, Stage, Unavailable
from benchmarks.experiments.speed.timing import Timer, Times, garbage_collected, interleaved
from seppo_core.data.source import first_line

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
