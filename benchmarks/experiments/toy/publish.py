"""What `python -m benchmarks toy --publish` writes into docs/: the table, the answers, and the figure behind them."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.page import SERIES
from benchmarks.experiments.toy.regimes import REGIMES
from benchmarks.experiments.toy.results import Row, Table
from benchmarks.experiments.toy.text import begun, markdown_table, not_begun
from seppo_core.io.atomic import save_text
from seppo_core.report import text_table
from seppo_core.report.chart import Line
from seppo_core.report.interval_chart import interval_chart
from seppo_core.report.standalone import standalone_chart

PAGE = ROOT / "docs" / "which_method.md"
FIGURES = ROOT / "docs" / "figures"
SHOWN = ("sft_matched", "indicator_initial", "seppo_indicator", "seppo", "sspo_initial", "gt_pair", "dpo_sft", "ditto")
"""Arms of the figure, in the order of their colours."""
NOUN = {"image": "images", "video": "clips"}


def publish(
    table: Table, modality: str, told: Sequence[str], page: Path = PAGE, figures: Path = FIGURES, regime: str = "own"
) -> None:
    """Replaces what stands between the page's marks for this regime and modality, and draws the figure.

    ValueError if the page has no marks.
    """
    rows = begun(table.of(regime))
    figure = figures / f"score_against_passes_{modality}{'' if regime == 'own' else f'_{regime}'}.svg"
    save_text(figure, score_against_passes(rows, NOUN[modality]))
    differences = figures / figure.name.replace("score_against_passes", "differences")
    drawn = over_control(rows)
    if drawn is not None:
        save_text(differences, drawn[1])
    missing = not_begun(table.of(regime))
    lines = [
        f"![Score against forward passes on {NOUN[modality]}](figures/{figure.name})",
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


REGIME_ARMS = ("continued", "sft", "sft_matched", "seppo", "indicator_initial", "dpo_sft")
"""Columns of the regimes' table."""
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


def score_against_passes(rows: Sequence[Row], noun: str) -> str:
    """An SVG of its own: the mean score over training seeds as training costs more."""
    base = next((row.mean.value for row in rows if row.arm == "base" and row.mean is not None), None)
    held = {row.arm: row for row in rows if row.curve}
    lines = []
    for series, arm in enumerate(arm for arm in SHOWN if arm in held):
        row = held[arm]
        last = row.curve[-1][0]
        points = [(row.passes * update / last / 1000, score) for update, score in row.curve]
        start = [] if base is None else [(0.0, base)]
        lines.append(Line(ARMS[arm].name, series, [*start, *points], markers=True))
    level = None if base is None else ("base", base)
    return standalone_chart(f"Score against cost, {noun}", lines, "1000 forward passes", "mean score R", level=level)
