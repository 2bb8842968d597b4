"""`python -m benchmarks.experiments.toy.cell OUT CELL_FOLDER` trains one cell with the real command, and judges it.

`... cell strong OUT MODALITY` and `... cell large OUT MODALITY` train the bases that some regimes start from.
"""

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from einops import rearrange
from safetensors.torch import load_file

from benchmarks.evaluation.anchor.measure import Plan as AnchorPlan
from benchmarks.evaluation.anchor.measure import choose, measure, open_run, points
from benchmarks.experiments.toy.arms import ARMS, SCHEMAS
from benchmarks.experiments.toy.data import validation
from benchmarks.experiments.toy.folder import CellResult, Paths, alarms, read_spec, write_result
from benchmarks.experiments.toy.judge import Judge
from benchmarks.experiments.toy.plan import Cell, config_path
from benchmarks.experiments.toy.regimes import STRONG
from benchmarks.experiments.toy.sweep import BUSY
from benchmarks.experiments.toy.task.base_settings import LARGE as LARGE_BASE
from benchmarks.experiments.toy.task.mixture import score_samples
from benchmarks.experiments.toy.task.train_base import train as train_base
from seppo_core.config.loader import load_config
from seppo_core.io.locks import holder_of
from seppo_core.report.provenance import provenance
from seppo_core.run.checkpoint import CheckpointFolder, load_weights
from seppo_core.run.history import read_metrics
from seppo_core.toy.captions import Modality, held_out
from seppo_image.__main__ import main as image_main
from seppo_video.__main__ import main as video_main

BATCH = {"image": 64, "video": 16}
ORIGIN = ("commit", "processor", "cores", "torch", "diffusers", "date")
CURVE = 2
"""Noises that a point of a learning curve is the mean over."""
NOISE = 1000
"""Seed of the first sample of every prompt."""


def main(arguments: list[str]) -> int:
    """The exit status: that of the command that failed, if one did."""
    if arguments[0] in BASES:
        return BASES[arguments[0]](Paths(Path(arguments[1])), arguments[2])
    paths, folder = Paths(Path(arguments[0]), *map(Path, arguments[2:])), Path(arguments[1])
    cell = read_spec(folder)
    run = folder / "run"
    seconds = None
    if cell.config is not None:
        if (holder := holder_of(run)) is not None:
            print(f"seppo-{cell.modality}: {run} is being trained in by {holder}; end that first, or wait for it")
            return BUSY
        begun = CheckpointFolder(run / "checkpoints").latest() is not None
        started = time.process_time()
        status = train(paths, cell, run)
        if status != 0:
            return status
        seconds = None if begun else round(time.process_time() - started, 2)
    curve = judge(paths, cell, run, folder)
    plus, margin, captions = (None, None, []) if cell.anchor is None else look_at_anchor(paths, cell, run, folder)
    result = CellResult(
        cell=cell, scores=load_file(folder / "scores.safetensors")["scores"].numpy(), prompts=prompts_of(cell),
        seconds=seconds, curve=curve, shares=shares(read_metrics(run) if run.is_dir() else []), plus=plus,
        margin=margin, captions=captions, alarms=alarms(run, cell),
    )  # fmt: skip
    write_result(paths, result, {key: value for key, value in provenance().items() if key in ORIGIN})
    clear(run)
    return 0


def train(paths: Paths, cell: Cell, run: Path) -> int:
    """`seppo-image train` or `seppo-video train`, as a user calls it; goes on with a run that was broken off."""
    argv = [
        "train", cell.config, "--run", str(run), "--data.source", str(paths.source(cell.modality, cell.data)),
        "--data.cache", str(paths.cache(cell.modality, cell.data)), *cell.options,
    ]  # fmt: skip
    if cell.base != "main":
        argv += ["--model.base", str(paths.base(cell.modality, cell.base))]
    print(f"seppo-{cell.modality} {' '.join(argv)}", flush=True)
    return (image_main if cell.modality == "image" else video_main)(argv)


def prompts_of(cell: Cell) -> list[str]:
    """The prompts that a cell is judged on: validation captions while rates are chosen, held-out ones for the table."""
    if cell.role == "tune":
        return validation(cell.modality)
    prompts = held_out(cell.modality)
    return prompts if cell.prompts is None else prompts[:: len(prompts) // cell.prompts][: cell.prompts]


def judge(paths: Paths, cell: Cell, run: Path, folder: Path) -> list[tuple[int, float]]:
    """Writes scores.safetensors of the last checkpoint; the learning curve, from earlier ones' first noises."""
    config = load_config(cell.config or config_path(cell.modality, ARMS["sft"]), SCHEMAS[cell.modality])
    if cell.base != "main":
        config = replace(config, model=replace(config.model, base=str(paths.base(cell.modality, cell.base))))
    noises = [NOISE + index for index in range(cell.noises)]
    judge = Judge(cell.modality, config, prompts_of(cell), noises, BATCH[cell.modality])
    found: list[tuple[int, float]] = []
    if cell.config is None:
        checkpoints = []
        judge.score(judge.base, folder / "scores.safetensors", noises, _silent)
        found.append((0, _first(folder / "scores.safetensors")))
    else:
        *checkpoints, last = CheckpointFolder(run / "checkpoints").list()
        judge.score(load_weights(last), folder / "scores.safetensors", noises, _silent)
        found.append((_updates(last), _first(folder / "scores.safetensors")))
    for checkpoint in checkpoints if cell.role == "final" else []:
        judge.score(load_weights(checkpoint), folder / "point.safetensors", noises[:CURVE], _silent)
        found.append((_updates(checkpoint), _first(folder / "point.safetensors")))
    (folder / "point.safetensors").unlink(missing_ok=True)
    return sorted(found)


def look_at_anchor(paths: Paths, cell: Cell, run: Path, folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Where s = +1 on some winners after training, how much better the policy's samples score there than the
    reference's, and the winners' captions. The reference is the one that the last iteration was trained against.
    """
    items, draws = cell.anchor
    opened = open_run(run, paths.cache(cell.modality, cell.anchor_data))
    plan = AnchorPlan(choose(len(opened.cache), items, 0), draws, batch_size=BATCH[cell.modality])
    captions = opened.cache.captions(list(plan.items))
    found = measure(opened, points(opened)[-1], plan, folder / "anchor")
    scores = []
    for samples in (found.policy_samples, found.reference_samples):
        pixels = rearrange(samples[:, 0], "n f h w c -> n c f h w").float() / 127.5 - 1
        pixels = pixels[:, :, 0] if cell.modality == "image" else pixels
        scores.append(score_samples(cell.modality, pixels, captions))
    shutil.rmtree(folder / "anchor")
    return found.plus.numpy(), (scores[0] - scores[1]).numpy(), captions


def shares(metrics: list[dict]) -> dict[str, float]:
    """Means over the run of the shares of s; nothing if the method takes no sign."""
    names = {"plus": "share_s_plus", "minus": "share_s_minus", "zero": "share_s_zero"}
    held = [line for line in metrics if "share_s_plus" in line]
    return {short: round(sum(line[name] for line in held) / len(held), 5) for short, name in names.items() if held}


def clear(run: Path) -> None:
    """Keeps config and metrics of a judged run, which are small, and removes weights and samples, which are not."""
    for name in ("checkpoints", "pool", "buffer", "tensorboard"):
        shutil.rmtree(run / name, ignore_errors=True)


def train_strong_base(paths: Paths, modality: Modality) -> int:
    """Writes the base that is tuned on the winners before all else; goes on with one that was broken off.

    Returns the exit status of the command that failed, or 0.
    """
    folder = paths.base(modality, "strong")
    run, config = folder.parent / "run", str(config_path(modality, ARMS["sft"]))
    where = (
        "--run", str(run), "--data.source", str(paths.source(modality, "winners")),
        "--data.cache", str(paths.cache(modality, "winners")),
    )  # fmt: skip
    sizes = ("--loop.batch_size", "16", "--loop.micro_batch_size", "16", "--loop.checkpoint_every", "200")
    status = image_main(["train", config, *where, *STRONG, *sizes])
    if status == 0:
        status = image_main(["export", config, "--run", str(run), "--kind", "full", "--out", str(folder)])
    if status == 0:
        shutil.rmtree(run)
    return status


def train_large_base(paths: Paths, modality: Modality) -> int:
    """Writes the base of about twice the weights; goes on with one that was broken off. The exit status, 0."""
    folder = paths.base(modality, "large")
    begun = folder.parent / "large-begun"
    begun.mkdir(parents=True, exist_ok=True)
    train_base(modality, LARGE_BASE, begun)
    (begun / f"{modality}_training.json").replace(folder.parent / "large_training.json")
    (begun / modality).replace(folder)
    shutil.rmtree(begun)
    return 0


BASES = {"strong": train_strong_base, "large": train_large_base}


def _first(path: Path) -> float:
    return round(load_file(path)["scores"][:, :CURVE].mean().item(), 5)


def _updates(checkpoint: Path) -> int:
    return json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))["update"]


def _silent(count: int) -> None:
    """Progress is told per cell."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
