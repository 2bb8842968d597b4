"""`python -m tools.two_runs` trains a healthy and a collapsed run of the embedded task and draws docs/figures.

Both learn from winners among the base's own samples, at one rate, from one seed, by the product's own commands. They
differ in the anchor alone: on (`flipper: indicator`), and off. A folder that was begun is continued, about ten minutes
of one CPU core in all.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.demo_picture import wrapped
from benchmarks.experiments.toy.own_data import write_own
from benchmarks.experiments.toy.plan import config_path
from seppo_core.io.atomic import save_text
from seppo_core.report.chart import Line, smoothed
from seppo_core.report.standalone import standalone_chart
from seppo_core.run.history import read_metrics
from seppo_core.run.previews import FOLDER, Previews, read_previews
from seppo_core.toy.captions import held_out
from seppo_image.__main__ import main as image_main

FIGURES = ROOT / "docs" / "figures"
FLIPPERS = {"healthy": "indicator", "collapsed": "off"}
SHOWN = (40, 80, 120)
"""Updates whose samples stand in the grid, below those of the start, which both runs share."""
PROMPTS = held_out("image")[::3]
"""Every third of the held-out prompts, in the task's order; none is selected. The grid shows every second of these."""
OPTIONS = (
    "--method.beta", "3", "--method.reference", "initial", "--optimizer.lr", "1e-3", "--optimizer.schedule", "linear",
    "--optimizer.warmup_updates", "20", "--loop.iterations", "4", "--loop.updates_per_iteration", "30",
    "--loop.batch_size", "16", "--loop.micro_batch_size", "16", "--loop.validate_every", "10",
    "--data.validation", "0.1", "--preview.every", "20", "--preview.per_prompt", "1",
    "--preview.judge", "seppo_core.toy.score:score_images", "--preview.judged_per_prompt", "2",
)  # fmt: skip
METRICS = {
    "loss": ("Loss", "loss"),
    "winner_error": ("Error on winners", "winner_error"),
    "held_out_error": ("Error on held-out winners", "held_out_error"),
}
WINDOW = 10
"""Updates that loss and error of a batch are averaged over."""
SIDE, GAP, LEFT, LINE = 64, 4, 104, 14


def train(folder: Path) -> dict[str, Path]:
    """Makes the winners and both runs; returns the runs' folders. RuntimeError if a command fails."""
    if not (folder / "own.json").is_file():
        write_own(folder, "image", 4, 1)
    config = str(ROOT / config_path("image", ARMS["indicator_initial"]))
    data = ("--data.source", str(folder / "own" / "winners.jsonl"), "--data.cache", str(folder / "cache"))
    runs = {name: folder / name for name in FLIPPERS}
    for name, run in runs.items():
        told = ("--run", str(run), *data, *OPTIONS, "--method.flipper", FLIPPERS[name], "--preview.prompts", *PROMPTS)
        for command in ("prepare", "train"):
            if image_main([command, config, *told]) != 0:
                raise RuntimeError(f"{command} failed in {run}; what it said stands above")
    return runs


def draw(runs: dict[str, Path], figures: Path) -> None:
    """A chart a metric, one of the scores, and a grid of previews."""
    metrics = {name: read_metrics(run) for name, run in runs.items()}
    for metric, (title, unit) in METRICS.items():
        lines = []
        for series, (name, logged) in zip((5, 3), metrics.items(), strict=True):
            points = [(line["update"], line[metric]) for line in logged if line.get(metric) is not None]
            lines.append(Line(name, series, points if metric == "held_out_error" else smoothed(points, WINDOW)))
        save_text(figures / f"health_{metric}.svg", standalone_chart(title, lines, "updates", unit))
    previews = {name: read_previews(run) for name, run in runs.items()}
    lines = [
        Line(
            name, series, [(one.update, one.mean.value) for one in found.all],
            low=[one.mean.low for one in found.all], high=[one.mean.high for one in found.all],
        )
        for series, (name, found) in zip((5, 3), previews.items(), strict=True)
    ]  # fmt: skip
    save_text(
        figures / "health_score.svg", standalone_chart("Score of the previews", lines, "updates", "preview_score")
    )
    grid(previews).save(figures / "health_previews.png", optimize=True)


def grid(runs: dict[str, Previews]) -> Image.Image:
    """A row a run and update, a column a prompt, with the prompt above and each row's mean score beside it."""
    font = ImageFont.load_default(11)
    rows = [("start", runs["healthy"], 0), *((name, found, update) for name, found in runs.items() for update in SHOWN)]
    top = 5 * LINE
    size = (LEFT + len(PROMPTS[::2]) * (SIDE + GAP), top + len(rows) * (SIDE + GAP))
    image = Image.new("RGB", size, (255, 255, 255))
    drawing = ImageDraw.Draw(image)
    for column, prompt in enumerate(PROMPTS[::2]):
        for number, line in enumerate(wrapped(prompt, SIDE, font)):
            drawing.text((LEFT + column * (SIDE + GAP), number * LINE), line, (34, 34, 34), font)
    for row, (name, found, update) in enumerate(rows):
        y = top + row * (SIDE + GAP)
        one = found.at(update)
        told = f"{name}\n{update} updates\nscore {one.mean.value:.2f}"
        drawing.multiline_text((GAP, y + SIDE // 6), told, (34, 34, 34), font)
        sheet = Image.open(found.folder / FOLDER / one.file).convert("RGB")
        side = one.drawing.width
        for column in range(len(PROMPTS[::2])):
            # a prompt is a row of the sheet, and the newest samples stand on the right
            left = sheet.width - side
            tile = sheet.crop((left, 2 * column * side, left + side, (2 * column + 1) * side))
            image.paste(tile.resize((SIDE, SIDE), Image.Resampling.NEAREST), (LEFT + column * (SIDE + GAP), y))
    return image


if __name__ == "__main__":
    draw(train(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "two_runs"), FIGURES)
