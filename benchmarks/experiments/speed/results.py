"""What was measured, and how it is written down."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.experiments.speed.memory import Memory
from benchmarks.experiments.speed.ratios import Spread, ratio, spread
from benchmarks.experiments.speed.stage import Left
from benchmarks.experiments.speed.timing import Times

FORMAT = 1
KIND = "seppo-speed-report"


@dataclass(frozen=True)
class Measured:
    """One variant beside its baseline."""

    name: str
    note: str
    ratio: Spread
    """Its time over the baseline's, of the same rounds; the baseline's own is 1."""
    milliseconds: Spread
    counted: float | None
    """The ratio that forward passes alone would give."""
    first: float
    """Milliseconds of the very first call, before the warm-up had its effect."""
    memory: Memory | None
    rounds: tuple[float, ...]
    """Milliseconds of each round."""

    def to_json(self) -> dict:
        return {
            "name": self.name, "note": self.note, "ratio": self.ratio.to_json(), "counted": self.counted,
            "milliseconds": self.milliseconds.to_json(), "first_milliseconds": self.first,
            "memory": None if self.memory is None else self.memory.to_json(), "rounds": list(self.rounds),
        }  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One comparison on one subject; without variants where none could be measured."""

    comparison: str
    title: str
    question: str
    subject: str
    """What it was measured on, in words."""
    wanted_rounds: int
    warmup: int
    variants: tuple[Measured, ...]
    """The first is the baseline."""
    left: tuple[Left, ...]
    remarks: tuple[str, ...]
    elapsed: float
    """Seconds, building and warming up included."""

    @property
    def rounds(self) -> int:
        """That all variants have."""
        return min((len(one.rounds) for one in self.variants), default=0)

    @property
    def is_partial(self) -> bool:
        """Whether it was broken off between rounds."""
        return bool(self.variants) and self.rounds < self.wanted_rounds

    @property
    def failed(self) -> bool:
        return any(one.failed for one in self.left)

    def to_json(self) -> dict:
        return {
            "comparison": self.comparison, "title": self.title, "question": self.question, "subject": self.subject,
            "rounds": self.rounds, "wanted_rounds": self.wanted_rounds, "warmup": self.warmup,
            "partial": self.is_partial, "variants": [one.to_json() for one in self.variants],
            "left": [asdict(one) for one in self.left], "remarks": list(self.remarks), "elapsed": self.elapsed,
        }  # fmt: skip


def measured(times: Sequence[Times], memory: dict[str, Memory | None]) -> tuple[Measured, ...]:
    """All variants that have a round in common with the baseline, the first of `times`; none without a baseline."""
    if not times or not times[0].seconds:
        return ()
    baseline = times[0].seconds
    return tuple(
        Measured(
            one.variant.name, one.variant.note, ratio(one.seconds, baseline),
            spread([1000 * seconds for seconds in one.seconds]), one.variant.counted, 1000 * one.first,
            memory.get(one.variant.name), tuple(1000 * seconds for seconds in one.seconds),
        )
        for one in times
        if one.seconds
    )  # fmt: skip
