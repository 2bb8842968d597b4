"""Samples of the same prompts from the same noise beside one another, prompt by prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seppo_core.report.html import Html, element
from seppo_core.report.sheet import Sheet
from seppo_core.report.wording import counted

PROMPTS = 24
"""Prompts of which a page shows the samples."""

Scores = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Side:
    """The samples of one model: `sheet` has a row a prompt, and so have `scores`, if there are any."""

    name: str
    sheet: Sheet
    scores: Scores | None = None


def prompts_side_by_side(prompts: Sequence[str], sides: Sequence[Side], base: Path) -> list[Html]:
    """A box a prompt with the samples of every side; `base` is the page's folder."""
    boxes = [
        element(
            "article",
            element("h3", prompt),
            element("div", *(_side(side, row, prompt, base) for side in sides), class_="sides"),
            class_="prompt",
        )
        for row, prompt in enumerate(prompts[:PROMPTS])
    ]
    shown = element("div", *boxes, class_="prompts")
    if len(prompts) <= PROMPTS:
        return [shown]
    told = f"The first {PROMPTS} of {counted(len(prompts), 'prompt')}; the pictures behind them hold all."
    return [shown, element("p", told, class_="quiet")]


def film(prompt: int, sides: Sequence[Side], words: str, base: Path) -> Html:
    """The first sample of a prompt (its row) of every side in a line."""
    return element(
        "div",
        *(_figure(side, prompt, 0, words, base, side.name.removeprefix("update ")) for side in sides),
        class_="film",
    )


def _side(side: Side, row: int, prompt: str, base: Path) -> Html:
    tiles = [_figure(side, row, column, prompt, base) for column in range(side.sheet.columns)]
    return element(
        "figure",
        element("figcaption", side.name),
        element("div", *tiles, class_="tiles", style=f"--tiles:{side.sheet.columns}"),
    )


def _figure(side: Side, row: int, column: int, prompt: str, base: Path, caption: str | None = None) -> Html:
    tile = side.sheet.tile(row, column, f"{side.name}: {prompt}", base)
    score = side.scores[row][column] if side.scores is not None and column < len(side.scores[row]) else None
    told = caption or (None if score is None else f"{score:.3g}")
    return element("figure", tile, element("figcaption", told) if told else None)
