"""What `python -m benchmarks toy --publish` writes into docs/: the table, the answers, and the figure behind them."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments.toy.arms import ARMS, REGIME_ARMS, ROOT
from benchmarks.experiments.toy.curves import BAND, base_score, curve_line
from benchmarks.experiments.toy.page import SERIES
from benchmarks.experiments.toy.regimes import REGIMES
from benchmarks.experiments.toy.results import Row, Table
from benchmarks.experiments.toy.text import begun, best_points, curve_gaps, markdown_table, not_begun
from seppo_core.io.atomic import save_text
from seppo_core.report import text_table
from seppo_core.report.chart import Line
from seppo_core.report.interval_chart import interval_chart
from seppo_core.report.standalone import standalone_panels

PAGE = ROOT / "docs" / "which_method.md"
FIGURES = ROOT / "docs" / "figures"
SHOWN = {
    "sft": (2, False), "sft_matched": (2, True), "indicator_initial": (3, False), "sspo_initial": (3, True),
    "seppo_indicator": (1, False), "seppo": (1, True), "dpo_sft": (5, False), "gt_pair": (4, False),
    "ditto": (0, False),
}  # fmt: skip
"""Arms of the figure, the same in all tiers: colour, and whether dashed, which the second of two that are akin is."""
NOUN = {"image": "images", "video": "clips"}


def publish(
    table: Table, modality: str, told: Sequence[str], page: Path = PAGE, figures: Path = FIGURES, regime: str = "own"
) -> None:
    """Replaces what stands between the page's marks for this regime and modality, and draws the figure.

    ValueError if the page has no marks.
    """
    rows = begun(table.of(regime))
    place = f"{modality}{'' if regime == 'own' else f'_{regime}'}"
    figure, differences = (figures / f"{what}_{place}.svg" for what in ("curves", "differences"))
    save_text(figure, score_curves(rows, NOUN[modality]))
    drawn = over_control(rows)
    if drawn is not None:
        save_text(differences, drawn[1])
    missing = not_begun(table.of(regime))
    lines = [
        f"![Score against updates and against forward passes on {NOUN[modality]}](figures/{figure.name})",
        "",
        told_of_curves(rows),
        "",
        *best_points(rows),
        "",
        *curve_gaps(rows),
        "",
        *([] if drawn is None else [f"![{drawn[0]}, {NOUN[modality]}](figures/{differences.name})", ""]),
        *markdown_table(rows),
        "",
        *([f"Not run yet: {', '.join(missing)}.", ""] if missing else []),
        *(f"- {one}" for one in table.comparisons if one.regime == regime),
        "",
        *(f"{text}\n" for text in told),
    ]
    save_text(page, between(page.read_text(encoding="utf-8"), f"{regime}-{modality}", "\n".join(lines).strip()))


REGIME_QUESTIONS = (("seppo", "sft_matched"), ("indicator_initial", "sft"), ("indicator_initial", "sft_matched"))


def publish_regimes(
    table: Table, regimes: Sequence[str], modality: str, told: Sequence[str], page: Path = PAGE
) -> None:
    """Replaces what stands between the page's marks for the regimes: a row for each, and what is above what.

    ValueError if the page has no marks.
    """
    lines = []
    for regime in regimes:
        rows = {row.arm: row for row in table.of(regime)}
        means = [rows[arm].mean if arm in rows else None for arm in ("base", *REGIME_ARMS)]
        lines.append([REGIMES[regime].text, *("–" if one is None else f"{one.value:.3f}"[1:] for one in means)])
    headings = ("winners, base, length", "base", *(ARMS[arm].name for arm in REGIME_ARMS))
    asked = [one for one in table.comparisons if (one.first, one.second) in REGIME_QUESTIONS]
    told_lines = [f"- {regime}: {one}" for regime in regimes for one in asked if one.regime == regime]
    content = [*text_table.markdown_table(headings, lines), "", *told_lines, "", *(f"{text}\n" for text in told)]
    mark = f"regimes-{modality}"
    save_text(page, between(page.read_text(encoding="utf-8"), mark, "\n".join(content).strip()))


def between(text: str, mark: str, content: str) -> str:
    """`text` with `content` between its comments `mark:begin` and `mark:end`; ValueError if they are not there."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no marks {begin} and {end}; put them where its table belongs")
    return f"{before}{begin}\n{content}\n{end}{after}"


def over_control(rows: Sequence[Row]) -> tuple[str, str] | None:
    """What every arm is over SFT, paired, best first: what it shows and the SVG. None where no arm can be compared.

    Without SFT among the arms the compute-matched one takes its place.
    """
    for control in ("sft", "sft_matched"):
        held = [(row, row.over[control]) for row in rows if row.arm != "base" and control in row.over]
        if held:
            held.sort(key=lambda pair: -pair[1].value)
            title = f"Mean score over {ARMS[control].name}, paired, with 95 % intervals"
            lines = [(row.name, SERIES[ARMS[row.arm].group], interval) for row, interval in held]
            return title, interval_chart(lines, title)
    return None


def score_curves(rows: Sequence[Row], noun: str) -> str:
    """An SVG of its own: the mean score over training seeds, with intervals, by updates and by what training had cost.

    An arm that makes more updates than the others, to cost as much as one of them, is in the second panel alone.
    """
    base = base_score(rows)
    held = {row.arm: row for row in rows if row.curve}
    panels: dict[str, list[Line]] = {}
    for label in ("updates", "1000 forward passes"):
        for arm in (arm for arm in SHOWN if arm in held):
            row = held[arm]
            if label == "updates" and ARMS[arm].matched is not None:
                continue
            scale = 1.0 if label == "updates" else row.passes_at(1) / 1000
            panels.setdefault(label, []).append(curve_line(row, SHOWN[arm][0], base, scale, SHOWN[arm][1]))
    level = None if base is None else ("base", base)
    return standalone_panels(
        f"Score against updates and cost, {noun}", list(panels.items()), "mean score R", level=level, band=BAND
    )


def told_of_curves(rows: Sequence[Row]) -> str:
    """What the figure's lines are, and how the table of best points is to be read."""
    alone = "; ".join(f"{row.name} ({row.curve[-1][0]} updates)" for row in rows if ARMS[row.arm].matched and row.curve)
    left_out = "; ".join(row.name for row in rows if row.curve and row.arm not in ("base", *SHOWN))
    return (
        "Lines are means over the training seeds, on first noises alone. Bands are 95 % t intervals over the training "
        "seeds, each point by itself, on these prompts and first noises: finished cells keep the mean score of a point "
        "and not the scores of its prompts, so that no band says what other prompts would change. The intervals of R "
        "further down count the prompts too and are as a rule wider. From few seeds a band's own width is uncertain."
        f"{alone and f' In the second panel alone: {alone}.'}{left_out and f' Not drawn: {left_out}.'} "
        "The table has each arm at the best point of its mean curve, with the same interval. That point is chosen on "
        "the held-out prompts themselves, which flatters an arm whose curve is noisy."
    )
