"""The table in words: Markdown for report.md, README and LOG, and for the terminal."""

from collections.abc import Sequence
from dataclasses import fields

from benchmarks.experiments.toy.arms import ARMS
from benchmarks.experiments.toy.curves import FIRST, best_place, gaps, intervals
from benchmarks.experiments.toy.plan import Plan, arm_config
from benchmarks.experiments.toy.regimes import REGIMES, Scale
from benchmarks.experiments.toy.results import Row, Table
from seppo_core.config.method import MethodConfig
from seppo_core.report import text_table
from seppo_core.report.statistics import Interval

HEADINGS = (
    "arm", "lr", "beta", "weight", "seeds", "R", "− base", "− SFT", "− matched SFT", "s = +1", "precision +",
    "recall +", "passes", "core s", "gates",
)  # fmt: skip
BEST_HEADINGS = ("arm", "best at update", "passes by then", "R there", "single seeds", "R at the end")
NONE = "–"


def markdown(table: Table, plan: Plan, scores: dict[str, float]) -> str:
    """The whole report: one table per regime, the comparisons in words, how it was measured."""
    lines = ["# The embedded task, every method", ""]
    for regime in plan.regimes:
        if len(plan.regimes) > 1:
            lines += [f"## {regime}: {REGIMES[regime].text}", ""]
        lines += markdown_table(begun(table.of(regime)))
        if missing := not_begun(table.of(regime)):
            lines += ["", f"Not run yet: {', '.join(missing)}."]
        told = [str(one) for one in table.comparisons if one.regime == regime]
        lines += ["", *(f"- {text}" for text in told), ""]
    failures = [text for row in table.rows for text in row.failures]
    if failures:
        lines += ["Failed, and left out:", "", *(f"- {text}" for text in failures), ""]
    return "\n".join([*lines, *(f"{text}\n" for text in how(table, plan, scores))])


def begun(rows: Sequence[Row]) -> list[Row]:
    """Those with something to show."""
    return [row for row in rows if row.seeds or row.failures]


def not_begun(rows: Sequence[Row]) -> list[str]:
    """Names of the others."""
    return [row.name for row in rows if not (row.seeds or row.failures)]


def markdown_table(rows: Sequence[Row]) -> list[str]:
    """Lines of one table. Bold: the difference's interval does not hold 0. † marks fewer seeds than were asked for."""
    return text_table.markdown_table(HEADINGS, [cells(row) for row in rows])


def best_points(rows: Sequence[Row]) -> list[str]:
    """Lines of a table of each arm at the best point of its mean curve, the best arm first."""
    held = []
    for row in rows:
        if row.arm == "base" or not row.curve:
            continue
        place = best_place(row)
        (update, best), interval = row.curve[place], intervals(row)[place]
        runs = [score for curve in row.curves for at, score in curve if at == update]
        told = [row.name, f"{update}", f"{row.passes_at(update) / 1000:.1f}k", _with_bounds(best, interval),
                f"{_three(min(runs))}–{_three(max(runs))}", _three(row.curve[-1][1])]  # fmt: skip
        held.append((best, told))
    return text_table.markdown_table(BEST_HEADINGS, [told for _, told in sorted(held, key=lambda one: -one[0])])


def curve_gaps(rows: Sequence[Row]) -> list[str]:
    """Lines of a table of differences between curves, and what they are; empty where there are none."""
    found = gaps(rows)
    if not found:
        return []
    lines = []
    for gap in found:
        lines.append([
            ARMS[gap.against].name, f"{gap.seeds}",
            NONE if gap.at_update is None else f"{gap.update}: {_difference(gap.at_update)}",
            NONE if gap.at_passes is None else f"{gap.passes / 1000:.1f}k: {_difference(gap.at_passes)}",
            _difference(gap.at_best),
        ])  # fmt: skip
    told = (
        "Differences are paired by training seed, on these prompts and first noises, with t intervals over the seeds "
        "alone; bold: the interval does not hold 0. Updates and passes are equal at the smaller of both ends; an "
        "arm that makes more updates by design has none at equal updates, and one that costs so few passes that the "
        "other has no point by then none at equal passes. Between its points a curve is read off a "
        "straight line. Best points are those of the table above, and the "
        "intervals do not count that they are chosen on these prompts. Where both curves end, the differences further "
        "down say more: they are on all noises, and their intervals count the prompts."
    )
    headings = (f"{ARMS[FIRST].name} −", "seeds", "at equal updates", "at equal passes", "each at its best")
    return [*text_table.markdown_table(headings, lines), "", told]


def cells(row: Row) -> list[str]:
    """One row's texts, in the order of HEADINGS."""
    base = row.arm == "base"
    seeds = NONE if base else f"{len(row.seeds)}{f' of {row.wanted} †' if row.is_partial else ''}"
    anchor = row.anchor
    return [
        row.name,
        *(_chosen(row, axis) for axis in range(3)),
        seeds,
        NONE if row.mean is None else _with_bounds(row.mean.value, row.mean),
        *(_difference(row.over.get(control)) for control in ("base", "sft", "sft_matched")),
        f"{100 * row.shares['plus']:.0f} %" if row.shares else NONE,
        NONE if anchor is None else f"{_percent(anchor.precision)} ({_percent(anchor.base_rate)})",
        NONE if anchor is None else _percent(anchor.recall),
        NONE if base else f"{row.passes / 1000:.1f}k",
        NONE if base or row.seconds is None else f"{row.seconds:.0f}",
        ", ".join(f"{gate} {count}" for gate, count in row.alarms.items()) or NONE,
    ]


def _chosen(row: Row, axis: int) -> str:
    if row.setting is None or row.setting[axis] is None:
        return NONE
    return f"{row.setting[axis]:g}{'*' if row.at_edge(axis) else ''}"


def how(table: Table, plan: Plan, scores: dict[str, float]) -> list[str]:
    """Paragraphs that a reader needs in order to trust the table."""
    scale = plan.scale
    iterations, updates, batch = plan.lengths(plan.regimes[0], "seppo")
    matched = "sft_matched" in plan.arms(plan.regimes[0])
    longer = plan.lengths(plan.regimes[0], "sft_matched")[1] if matched else updates
    sets = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    rates = ", ".join(f"{rate:g}" for rate in scale.rates)
    return [
        *(["**Partial:** † marks arms with fewer training seeds than asked for."] if table.is_partial else []),
        f"R is the exact score, 0 to 1, on {table.prompts} held-out prompts with the same {table.noises} noises for "
        f"every arm. Every arm trains for {iterations} x {updates} updates of {batch} from the same "
        f"base{_averaged(scale)}; the compute-matched SFT for {iterations} x {longer}, which costs as many forward "
        "passes as SePPO (a backward "
        f"pass counts as two; generation and the reference count too){_in_seconds(table)}."
        f"{sets and f' Mean score of the data: {sets}.'}",
        f"Settings: every arm is tried at learning rates of {rates} with one further seed on validation prompts that "
        "are neither in the data nor in the test, and if the best is the lowest or highest, up to "
        f"{scale.extend} steps beyond{_further(scale)}; the best runs with all training seeds. * marks a choice "
        f"that is still at the edge.{untuned(plan)}",
        "Intervals are 95 % t intervals of training seeds and prompts as crossed effects (an arm with one seed: "
        "prompts alone); of few seeds they are wide, for so few say little of the next. Differences are paired by "
        "seed, prompt and noise. They are not corrected for the number of comparisons. Training seeds change order, "
        "noise and the reference's draws; the data and the base are one for all.",
        "s = +1: its share over training. Precision and recall of s = +1 after training, on winners' captions: is the "
        "reference's sample then really below the policy's own from the same noise? In brackets how often it is "
        "whatever s says. core s: processor time of `train`, samples and checkpoints among it, on machines of which "
        "some are twice as fast as others. gates: in how many of the runs a health gate would have spoken at its "
        "default limits; they were off.",
    ]


def _averaged(scale: Scale) -> str:
    if scale.ema is None:
        return ""
    return f", at a level rate, and a running average of its weights (decay {scale.ema:g}) is judged"


def untuned(plan: Plan) -> str:
    """What is set and not tuned, arm by arm, as the configs have it; empty where no arm has such a constant."""
    if plan.scale.beta is None:
        return " All other constants are as the configs have them, beta among them."
    shared = {field.name for field in fields(MethodConfig)}
    told: dict[bool, list[str]] = {True: [], False: []}
    for arm in plan.arms(plan.regimes[0]):
        method = arm_config(plan.modality, ARMS[arm]).method
        beta, weight = plan.start(arm)
        searched = {"beta": beta, "sft_weight": weight}
        for field in fields(method):
            value = vars(method)[field.name]
            # a number that is 0 turns its term off
            is_number = field.name not in shared and isinstance(value, float | tuple) and bool(value)
            if is_number and searched.get(field.name) is None:
                shown = f"{value:g}" if isinstance(value, float) else ", ".join(f"{one:g}" for one in value)
                told[value == field.default].append(f"`{field.name}` {shown} ({ARMS[arm].name})")
    written = {True: "stay at their defaults, which docs/reference describes", False: "are what the configs say"}
    parts = [f"{', '.join(told[kind])} {text}" for kind, text in written.items() if told[kind]]
    return f" Constants that are not tuned: {'; '.join(parts)}." if parts else ""


def _further(scale: Scale) -> str:
    if scale.beta is None:
        return ""
    shorter = "" if scale.tuning_iterations is None else f", all in runs of {scale.tuning_iterations} iterations"
    return (
        f"; then at a tenth and ten times its first beta of {scale.beta:g}, and beyond in the same way, and at the "
        "rates beside the best at that beta, and the betas beside the best at that rate (DSPO's beta is of another "
        "scale and has values of its own); then at a "
        f"third and three times the winner term's first weight of {scale.weight:g}, where a method has one{shorter}"
    )


def _in_seconds(table: Table) -> str:
    """Passes are not seconds: a pass of a small update costs more than one of a large batch that is only sampled."""
    seconds = {row.arm: row.seconds for row in table.rows}
    if seconds.get("sft_matched") is None or seconds.get("seppo") is None:
        return ""
    return f"; in processor time {seconds['sft_matched']:.0f} s against {seconds['seppo']:.0f} s here"


def _difference(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    value, low, high = interval
    text = f"{value:+.3f}".replace("0.", ".", 1)
    bounds = f"({low:+.3f} to {high:+.3f})".replace("0.", ".")
    return f"{f'**{text}**' if low > 0 or high < 0 else text} {bounds}"


def _with_bounds(value: float, interval: Interval | None) -> str:
    bounds = "" if interval is None else f" ({_three(interval.low)}–{_three(interval.high)})"
    return f"{_three(value)}{bounds}"


def _three(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _percent(interval: Interval | None) -> str:
    return NONE if interval is None else f"{100 * interval.value:.0f} %"
