"""The figures of docs/watching.md: small, and drawn from what runs leave."""

from pathlib import Path

import numpy as np
from PIL import Image

from seppo_core.run.history import append_line
from seppo_core.run.previews import FOLDER, Drawing, PreviewRecord, add_preview
from tests.docs.pages import ROOT
from tools.two_runs import FLIPPERS, LEFT, METRICS, PROMPTS, SHOWN, SIDE, draw

SHEET = 32
DRAWING = Drawing(tuple(PROMPTS), 0, 1, "ddim", 2, 1.0, SHEET, SHEET, 1)


def leave(run: Path, grey: int) -> None:
    """Metrics and previews of a run whose samples have one grey each, beside a black start's."""
    for update in range(1, 121):
        append_line(run / "metrics.jsonl", {"update": update} | dict.fromkeys(METRICS, 1 / update))
    (run / FOLDER).mkdir()
    for update in (0, *SHOWN):
        start = np.zeros((len(PROMPTS) * SHEET, SHEET, 3), dtype=np.uint8)
        gap, new = np.full((len(start), 8, 3), 255, np.uint8), np.full_like(start, grey)
        sheet = start if update == 0 else np.concatenate([start, gap, new], axis=1)
        Image.fromarray(sheet).save(run / FOLDER / f"{update}.png")
        scores = tuple((0.5,) for _ in PROMPTS)
        add_preview(run, PreviewRecord(update, f"{update}.png", update > 0, DRAWING, "judge", "print", scores))


def test_a_chart_a_metric_and_a_grid_of_the_newest_samples(tmp_path):
    runs = {name: tmp_path / name for name in FLIPPERS}
    for number, run in enumerate(runs.values()):
        run.mkdir()
        leave(run, 100 + number)
    draw(runs, tmp_path / "figures")
    grid = np.asarray(Image.open(tmp_path / "figures" / "health_previews.png"))
    column = grid[:, LEFT : LEFT + SIDE]
    heights = [int((column == value).all(axis=(1, 2)).sum()) // SIDE for value in (0, 100, 101)]
    assert heights == [1, len(SHOWN), len(SHOWN)]
    assert len(list((tmp_path / "figures").glob("*.svg"))) == len(METRICS) + 1


def test_the_committed_figures_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "docs" / "figures").glob("health_*")) < 300_000
