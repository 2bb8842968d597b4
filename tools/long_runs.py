"""`python -m tools.long_runs`: what beta decides, and what bounds the samples' error when a run goes on for long.

SePPO (indicator, the base as its reference) at one level rate with several betas, three times as long as the comparison
runs, each from the same winners among the base's own samples. A folder that was begun is continued; about a quarter of
an hour of one CPU core in all. Writes benchmarks/results/long_runs.json and two figures of docs.
"""

import sys
from pathlib import Path
from statistics import mean

from safetensors.torch import load_file

from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.cell import BATCH, ORIGIN
from benchmarks.experiments.toy.judge import Judge
from benchmarks.experiments.toy.own_data import write_own
from benchmarks.experiments.toy.plan import arm_config, config_path
from benchmarks.experiments.toy.regimes import EMA
from seppo_core.io.atomic import save_json, save_text
from seppo_core.report.chart import Line, smoothed
from seppo_core.report.provenance import provenance
from seppo_core.report.standalone import standalone_chart
from seppo_core.run.checkpoint import CheckpointFolder, load_weights
from seppo_core.run.history import read_metrics
from seppo_core.toy.captions import held_out
from seppo_image.__main__ import main as image_main

BETAS = (0.01, 1.0, 10.0, 100.0)
UPDATES, EVERY, WINDOW = 720, 120, 40
SEEDS = [1000, 1001]
ARM = "indicator_initial"
OPTIONS = (
    "--optimizer.lr", "1e-3", "--optimizer.schedule", "constant", "--optimizer.warmup_updates", "20",
    "--optimizer.ema_decay", str(EMA), "--loop.iterations", str(UPDATES // 60), "--loop.updates_per_iteration", "60",
    "--loop.batch_size", "16", "--loop.micro_batch_size", "16", "--loop.checkpoint_every", str(EVERY),
    "--loop.keep_checkpoints", "1000", "--health.winner_error", "off", "--health.margin", "off",
)  # fmt: skip
RESULT = ROOT / "benchmarks" / "results" / "long_runs.json"
FIGURES = ROOT / "docs" / "figures"
SHOWN = ("gap_size", "margin", "winner_error", "sample_error", "sample_gap", "share_s_plus", "drift")


def train(folder: Path, beta: float) -> Path:
    """The run's folder. RuntimeError if a command fails."""
    if not (folder / "own.json").is_file():
        write_own(folder, "image", 4, 2)
    config, run = str(ROOT / config_path("image", ARMS[ARM])), folder / f"beta_{beta:g}"
    data = ("--data.source", str(folder / "own" / "winners.jsonl"), "--data.cache", str(folder / "cache"))
    for command in ("prepare", "train"):
        if image_main([command, config, "--run", str(run), *data, *OPTIONS, "--method.beta", f"{beta:g}"]) != 0:
            raise RuntimeError(f"{command} failed in {run}; what it said stands above")
    return run


def scores(run: Path) -> list[tuple[int, float]]:
    """Updates, and the mean exact score of the averaged weights on the held-out prompts."""
    prompts = held_out("image")
    judge = Judge("image", arm_config("image", ARMS[ARM]), prompts, SEEDS, BATCH["image"])
    found = []
    for checkpoint in CheckpointFolder(run / "checkpoints").list():
        file = run / "scores" / f"{checkpoint.name}.safetensors"
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            judge.score(load_weights(checkpoint), file, SEEDS, lambda count: None)
        found.append((int(checkpoint.name.rpartition("-")[2]), round(load_file(file)["scores"].mean().item(), 4)))
    return found


def summary(run: Path, ends: list[int]) -> list[dict[str, float]]:
    """Means of the metrics over the WINDOW updates before each of `ends`."""
    metrics = read_metrics(run)
    rows = []
    for end in ends:
        held = [line for line in metrics if end - WINDOW < line["update"] <= end]
        rows.append({"update": end} | {name: round(mean(line[name] for line in held), 5) for name in SHOWN})
    return rows


def main(folder: Path) -> None:
    """Trains, judges, writes and prints."""
    rows, lines = [], {"score": [], "sample_error": []}
    for series, beta in enumerate(BETAS, 1):
        run = train(folder, beta)
        curve = scores(run)
        table = summary(run, [update for update, _ in curve])
        rows.append({"beta": beta, "scores": curve, "metrics": table})
        lines["score"].append(Line(f"beta {beta:g}", series, curve))
        points = [(line["update"], line["sample_error"]) for line in read_metrics(run)]
        lines["sample_error"].append(Line(f"beta {beta:g}", series, smoothed(points, WINDOW)))
        for (update, score), line in zip(curve, table, strict=True):
            told = ", ".join(f"{name} {line[name]:.3f}" for name in SHOWN)
            print(f"beta {beta:g}, {update} updates: score {score:.3f}, {told}")
        origin = {key: value for key, value in provenance().items() if key in (*ORIGIN, "started")}
        save_json(RESULT, {"kind": "seppo-toy-long", "format": 1, "runs": rows, "provenance": origin})
    for name, title in (("score", "Score of the averaged weights"), ("sample_error", "Error on the base's samples")):
        save_text(FIGURES / f"long_{name}.svg", standalone_chart(title, lines[name], "updates", name))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "long_runs")
