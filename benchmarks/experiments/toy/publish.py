"""What `python -m benchmarks toy --publish` writes into docs/: the table, the answers, and the figure behind them."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.results import Row, Table
from benchmarks.experiments.toy.text import begun, markdown_table, not_begun
from seppo_core.io.atomic import save_text
from seppo_core.report.chart import Line
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
    missing = not_begun(table.of(regime))
    lines = [
        f"![Score against forward passes on {NOUN[modality]}](figures/{figure.name})",
        "",
        *markdown_table(rows),
        "",
        *([f"Not run yet: {', '.join(missing)}.", ""] if missing else []),
        *(f"- {one}" for one in table.comparisons if one.regime == regime),
        "",
        *(f"{text}\n" for text in told),
    ]
    save_text(page, between(page.read_text(encoding="utf-8"), f"{regime}-{modality}", "\n".join(lines).strip()))


def between(text: str, mark: str, content: str) -> str:
    """`text` with `content` between its comments `mark:begin` and `mark:end`; ValueError if they are not there."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no marks {begin} and {end}; put them where its table belongs")
    return f"{before}{begin}\n{content}\n{end}{after}"


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
