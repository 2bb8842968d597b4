"""The results of a run, as JSON and as Markdown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.experiments.speed.bench import Left
from benchmarks.experiments.speed.main import NAMES
from benchmarks.experiments.speed.measuring import CONFIDENCE, Memory, Spread, Times, megabytes, ratio, spread
from seppo_core.report.text_table import markdown_table

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
    """One comparison on one subject; without variants if none could be measured."""

    comparison: str
    title: str
    question: str
    subject: str
    """The measured base, in words."""
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
        """Number of rounds that all variants have."""
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


BUSY = 0.3
"""Load per core before the run from which on the machine is called busy."""


@dataclass(frozen=True)
class Report:
    """The results in their order, and where they come from."""

    results: tuple[Result, ...]
    partial: bool
    """Whether the run ended before its plan did."""
    settings: dict[str, object]
    provenance: dict[str, object]

    def to_json(self) -> dict:
        return {
            "format": FORMAT, "kind": KIND, "partial": self.partial, "settings": self.settings,
            "results": [result.to_json() for result in self.results], "provenance": self.provenance,
        }  # fmt: skip

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(result.subject for result in self.results))

    def of(self, subject: str) -> list[Result]:
        return [result for result in self.results if result.subject == subject]

    @property
    def left(self) -> list[tuple[str, str]]:
        """Comparisons that were not measured, with the reason; named once if it is the same for all bases."""
        reasons: dict[tuple[str, str], list[str]] = {}
        ran: dict[str, set[str]] = {}
        for result in self.results:
            ran.setdefault(result.comparison, set()).add(result.subject)
            for one in result.left:
                name = one.name if one.name == result.comparison else f"{result.comparison}: {one.name}"
                told = f"failed: {one.reason}" if one.failed else one.reason
                reasons.setdefault((name, told), []).append(result.subject)
        return [
            (
                name if set(subjects) == ran[name.partition(":")[0]] else f"{name} ({', '.join(map(short, subjects))})",
                reason,
            )
            for (name, reason), subjects in reasons.items()
        ]


def markdown(report: Report) -> str:
    """The tables, what was not measured, and how it was done."""
    parts = []
    for subject in report.subjects:
        parts.append(f"## {subject}\n")
        for result in report.of(subject):
            if result.variants:
                parts.append(f"### {result.title}\n\n{result.question}{_rounds(result)}\n\n{_table(result)}\n")
                parts += [f"- {remark}" for remark in result.remarks]
                parts += [f"- {one.name}: {one.note}." for one in result.variants if one.note]
                parts.append("")
    if report.left:
        parts += ["## Not measured\n", *(f"- {name}: {reason}" for name, reason in report.left), ""]
    parts += ["## How it was measured\n", *how(report)]
    return "\n".join(parts).strip() + "\n"


def how(report: Report) -> list[str]:
    """Sentences on the way of measuring and on this run."""
    s = report.settings
    said = [
        "Every figure is a ratio of two variants that were timed in turn (A B A B …) in one process. A ratio is formed "
        "within each round; shown are the median over rounds, the interval that holds it with 95 % whatever the "
        "distribution (order statistics; of fewer than six rounds the range, which holds it with less), and the "
        "quartiles. Milliseconds are context: they are this machine's.",
        f"{s['rounds']} rounds after {s['warmup']} to warm up; {s['device_name']}, {s['threads']} "
        f"thread{'s' if s['threads'] != 1 else ''} of torch. Models have the architecture of their base and random "
        "weights, batches are random: neither changes the work.",
        "Memory is what a variant needs by itself: the weights, moments, reference and batch that it keeps, and the "
        f"most that a call makes beside them, {s['memory']}.",
        '"By passes" is the ratio that counting forward passes gives, a backward as two (as one under a LoRA).',
    ]
    if s["load"] is not None and s["load"] > BUSY * s["cores"]:
        said.append(
            f"The machine was busy: its load was {s['load']:.1f} on {s['cores']} cores before this run began. Ratios "
            "bear that better than milliseconds do, but intervals are wider than on a quiet machine."
        )
    if report.partial:
        missing = [name for name in s["comparisons"] if not any(r.comparison == name for r in report.results)]
        said.append(
            "This report is not complete: the run was broken off"
            + (f" before {', '.join(missing)}." if missing else " in its last comparison.")
        )
    return said


def short(subject: str) -> str:
    """A subject's name without its size and settings."""
    return subject.partition(",")[0]


def confidence(result: Result) -> str:
    """The confidence of a comparison's intervals, in words."""
    least = min(one.ratio.confidence for one in result.variants)
    return "95 % interval" if least >= CONFIDENCE else f"range ({100 * least:.0f} %)"


def _rounds(result: Result) -> str:
    return f" ({result.rounds} of {result.wanted_rounds} rounds: broken off)" if result.is_partial else ""


def _table(result: Result) -> str:
    counted = any(one.counted is not None for one in result.variants)
    remembered = any(one.memory is not None for one in result.variants)
    headings = ["variant", f"times {result.variants[0].name}", confidence(result), "quartiles", "ms"]
    headings += ["by passes"] * counted + ["memory", "times"] * remembered
    rows = []
    for place, one in enumerate(result.variants):
        cells = [one.name, *(_ratio(one.ratio) if place else ["1", "", ""]), f"{one.milliseconds.value:,.1f}"]
        cells += ["" if one.counted is None else f"{one.counted:.2f}"] * counted
        cells += _memory(one, result.variants[0].memory) * remembered
        rows.append(cells)
    return "\n".join(markdown_table(headings, rows, numbers=True))


def _ratio(found: Spread) -> list[str]:
    low, high = found.quartiles
    return [f"{found.value:.2f}", f"{found.median.low:.2f} to {found.median.high:.2f}", f"{low:.2f} to {high:.2f}"]


def _memory(one: Measured, baseline: Memory | None) -> list[str]:
    if one.memory is None:
        return ["", ""]
    return [megabytes(one.memory.peak), "" if not baseline else f"{one.memory.peak / baseline.peak:.2f}"]


def names_of(chosen: Sequence[str] | None) -> list[str]:
    """The comparisons to run, in the order of `NAMES`; all if none is chosen."""
    return [name for name in NAMES if not chosen or name in chosen]
