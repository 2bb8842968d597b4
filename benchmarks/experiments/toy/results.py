"""From finished cells to rows: means over training seeds and prompts with intervals, paired differences, cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.evaluation.anchor.validity import Validity, validity
from benchmarks.experiments.toy.arms import ARMS
from benchmarks.experiments.toy.folder import CellResult, Paths, read_result
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.queue import best_setting, failure, tuning_cells
from benchmarks.experiments.toy.regimes import REGIMES, Setting
from seppo_core.report.statistics import Interval, crossed_interval, mean_interval

CONTROLS = ("base", "sft", "sft_matched")
"""Controls that every arm is compared with, pair by pair."""
COMPARISONS = (
    ("seppo", "base"), ("seppo", "continued"), ("seppo", "sft"), ("seppo", "sft_matched"), ("seppo", "anchor_off"),
    ("seppo", "seppo_indicator"), ("seppo", "seppo_either"), ("seppo", "seppo_latest"), ("seppo", "seppo_initial"),
    ("seppo", "spin"), ("seppo", "dpo"), ("sspo", "sft_matched"), ("seppo_draws", "seppo"), ("seppo_batch", "seppo"),
    ("seppo_sft", "seppo"), ("dpo_guard", "dpo"), ("dpo_guard_batch", "dpo"), ("sft_matched", "sft"),
    ("indicator_initial", "base"),
    ("indicator_initial", "continued"), ("indicator_initial", "sft"), ("indicator_initial", "sft_matched"),
    ("indicator_initial", "ditto"), ("indicator_initial", "gt_pair"), ("indicator_initial", "dpo_sft"),
    ("indicator_initial", "seppo"), ("indicator_initial", "seppo_indicator"), ("indicator_initial", "sspo_initial"),
    ("indicator_initial", "seppo_initial"), ("indicator_initial", "sspo"), ("indicator_initial", "spin"),
    ("indicator_initial", "dro"), ("indicator_initial", "dpo"), ("indicator_initial", "dspo"),
    ("indicator_initial", "mapo"), ("indicator_initial", "kto"), ("indicator_initial", "online_dpo"),
    ("indicator_initial", "nft"), ("dpo_sft", "nft"), ("seppo_tracked", "indicator_initial"),
    ("online_seppo", "indicator_initial"), ("online_dpo", "dpo"), ("dpo_tracked", "dpo"), ("poly_dpo", "dpo"),
    ("dpo_sft", "dpo"), ("dpo_sft", "dspo"), ("dpo_sft", "kto"), ("dpo_sft", "online_dpo"),
    ("dspo", "sft_matched"), ("kto", "sft_matched"), ("nft", "online_dpo"),
    ("seppo_indicator", "seppo"), ("dpo_sft", "sft_matched"), ("gt_pair", "sft_matched"),
)  # fmt: skip
"""The questions that the table is asked."""

Array = np.ndarray


@dataclass(frozen=True)
class Row:
    """One arm in one regime. What cannot be said yet is None."""

    regime: str
    arm: str
    setting: Setting | None
    """Learning rate, beta and weight of the winner term that were chosen."""
    tuning: list[tuple[Setting, float | None]]
    """Settings that were tried and mean scores on the validation prompts; None for one that failed or is missing."""
    seeds: tuple[int, ...]
    """Training seeds that are there."""
    wanted: int
    failures: list[str]
    alarms: dict[str, int]
    """Number of runs in which each health gate would have raised an alarm."""
    mean: Interval | None
    over: dict[str, Interval]
    """Paired differences to the controls, by their names."""
    shares: dict[str, float]
    """Shares of s by sign, over all runs."""
    anchor: Validity | None
    passes: int
    seconds: float | None
    """Seconds of one core, the mean over runs."""
    curve: list[tuple[int, float]]
    """(updates, mean score over runs, first noises)."""
    curves: list[list[tuple[int, float]]]
    """The same of each run, in the order of `seeds`. Cells keep no scores of single prompts for these."""

    @property
    def name(self) -> str:
        return ARMS[self.arm].name

    @property
    def is_partial(self) -> bool:
        return len(self.seeds) < self.wanted

    def passes_at(self, update: int) -> float:
        """Forward passes that training had cost by then."""
        return self.passes * update / self.curve[-1][0]

    @property
    def rate(self) -> float | None:
        return None if self.setting is None else self.setting[0]

    def at_edge(self, axis: int) -> bool:
        """Whether the chosen value is the lowest or highest that was tried: the best may lie beyond."""
        values = {setting[axis] for setting, _ in self.tuning}
        return len(values) > 1 and self.setting is not None and self.setting[axis] in (min(values), max(values))

    def to_json(self) -> dict:
        plain = {name: value for name, value in vars(self).items() if name not in ("mean", "over", "anchor")}
        return plain | {
            "name": self.name,
            "partial": self.is_partial,
            "at_edge": [self.at_edge(axis) for axis in range(3)],
            "mean": None if self.mean is None else list(self.mean),
            "over": {control: list(interval) for control, interval in self.over.items()},
            "anchor": None if self.anchor is None else self.anchor.to_json(),
        }


@dataclass(frozen=True)
class Comparison:
    """Mean of first − second over shared training seeds and prompts."""

    regime: str
    first: str
    second: str
    difference: Interval
    seeds: int

    @property
    def verdict(self) -> str:
        """Whether the interval lies above zero, below zero, or holds it."""
        return "above" if self.difference.low > 0 else "below" if self.difference.high < 0 else "not apart"

    def __str__(self) -> str:
        value, low, high = self.difference
        runs = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return (
            f"{ARMS[self.first].name} − {ARMS[self.second].name}: {value:+.3f} ({low:+.3f} to {high:+.3f}), "
            f"{self.verdict}, {runs}"
        )

    def to_json(self) -> dict:
        return {
            "regime": self.regime, "first": self.first, "second": self.second, "difference": list(self.difference),
            "seeds": self.seeds, "verdict": self.verdict,
        }  # fmt: skip


@dataclass(frozen=True)
class Table:
    """All that is known by now."""

    rows: list[Row]
    comparisons: list[Comparison]
    prompts: int
    noises: int

    @property
    def is_partial(self) -> bool:
        return any(row.is_partial for row in self.rows)

    def of(self, regime: str) -> list[Row]:
        """The rows of a regime, the base that it starts from first; several may share that."""
        base = [row for row in self.rows if row.arm == "base" and row.regime == REGIMES[regime].base]
        return base + [row for row in self.rows if row.arm != "base" and row.regime == regime]


def load_table(plan: Plan, paths: Paths) -> Table:
    """Reads every finished cell of the plan, those of arms that `only` leaves out too."""
    bases = {cell.base: found for cell in plan.bases() if (found := read_result(paths, cell)) is not None}
    rows = [_base_row(base) for base in bases.values()]
    comparisons: list[Comparison] = []
    for regime in plan.regimes:
        found: dict[str, dict[int, CellResult]] = {}
        for arm in plan.arms(regime):
            setting = best_setting(plan, paths, regime, arm)
            cells = [] if setting is None else plan.final(regime, arm, setting)
            results = {cell.seed: result for cell in cells if (result := read_result(paths, cell)) is not None}
            found[arm] = results
        runs = {arm: {seed: result.scores.mean(1) for seed, result in cells.items()} for arm, cells in found.items()}
        base = bases.get(REGIMES[regime].base)
        if base is not None:
            runs["base"] = dict.fromkeys((0,), base.scores.mean(1))
        rows += [_row(plan, paths, regime, arm, results, runs) for arm, results in found.items()]
        for first, second in COMPARISONS:
            told = difference(runs.get(first, {}), runs.get(second, {}))
            if told is not None:
                comparisons.append(Comparison(regime, first, second, *told))
    shape = next((base.scores.shape for base in bases.values()), (0, 0))
    return Table(rows, comparisons, *shape)


def difference(first: Mapping[int, Array], second: Mapping[int, Array]) -> tuple[Interval, int] | None:
    """Interval of first − second, and of how many seeds; each is (prompts,) by training seed.

    Runs of one seed share their data's order and their draws, and are paired; the base, seed 0, has one run for all.
    None if they share none.
    """
    if set(second) == {0}:
        second = dict.fromkeys(first, second[0])
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    return over_runs([first[seed] - second[seed] for seed in shared]), len(shared)


def over_runs(values: Sequence[Array]) -> Interval:
    """Interval of the mean of (prompts,) per run: over runs and prompts, or over the prompts alone for one run."""
    return mean_interval(values[0]) if len(values) == 1 else crossed_interval(np.stack(values))


def _base_row(base: CellResult) -> Row:
    return Row(
        regime=base.cell.regime, arm="base", setting=None, tuning=[], seeds=(0,), wanted=1, failures=[], alarms={},
        mean=mean_interval(base.scores), over={}, shares={}, anchor=None, passes=0, seconds=0.0, curve=base.curve,
        curves=[base.curve],
    )  # fmt: skip


def _row(
    plan: Plan, paths: Paths, regime: str, arm: str, results: dict[int, CellResult], runs: dict[str, dict[int, Array]]
) -> Row:
    tuning = tuning_cells(plan, paths, regime, arm)
    tuned = {cell.setting: read_result(paths, cell) for cell in tuning}
    setting = best_setting(plan, paths, regime, arm)
    cells = [*tuning, *([] if setting is None else plan.final(regime, arm, setting))]
    ordered = [results[seed] for seed in sorted(results)]
    over = {control: difference(runs[arm], runs.get(control, {})) for control in CONTROLS if control != arm}
    seconds = [result.seconds for result in ordered if result.seconds is not None]
    held = [result.shares for result in ordered if result.shares]
    spoke = Counter(gate for result in ordered for gate in result.alarms)
    return Row(
        regime=regime,
        arm=arm,
        setting=setting,
        tuning=[(tried, None if result is None else round(result.mean, 5)) for tried, result in tuned.items()],
        seeds=tuple(sorted(results)),
        # of an arm that `only` leaves out nothing is missing until it is begun
        wanted=len(plan.seeds_of(regime, arm)) if results or arm in plan.chosen(regime) else 0,
        failures=[f"{cell.label}: {why}" for cell in cells if (why := failure(paths, cell)) is not None],
        alarms=dict(sorted(spoke.items())),
        mean=over_runs([runs[arm][seed] for seed in sorted(results)]) if results else None,
        over={control: told[0] for control, told in over.items() if told is not None},
        shares={sign: float(np.mean([one[sign] for one in held])) for sign in held[0]} if held else {},
        anchor=_anchor(ordered),
        passes=plan.cell(regime, arm, (plan.scale.rates[0], *plan.start(arm)), 0, "final").passes,
        seconds=float(np.mean(seconds)) if seconds else None,
        curve=_mean_curve(ordered),
        curves=[result.curve for result in ordered],
    )


def _anchor(results: Sequence[CellResult]) -> Validity | None:
    """Validity of s over all runs together; a caption is one unit with all its items."""
    held = [result for result in results if result.plus is not None]
    if not held:
        return None
    return validity(
        np.concatenate([result.plus for result in held]),
        np.concatenate([result.margin for result in held]),
        [caption for result in held for caption in result.captions],
    )


def _mean_curve(results: Sequence[CellResult]) -> list[tuple[int, float]]:
    points: dict[int, list[float]] = {}
    for result in results:
        for update, score in result.curve:
            points.setdefault(update, []).append(score)
    return [(update, float(np.mean(scores))) for update, scores in sorted(points.items())]
