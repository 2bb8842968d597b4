"""`python -m benchmarks.experiments.toy.demo_data MODALITY FOLDER SEED COUNT [TRAINING]` writes a demo's start.

training.txt   prompts that winners are sought for, one a line
held-out.txt   prompts that every arm is judged on
continued/     COUNT fresh draws of what the base was trained on, as a captioned folder
start.json     written last: the draws' mean exact score
"""

import shutil
import sys
from pathlib import Path

import torch

from benchmarks.experiments.toy.task.mixture import draw_samples, score_samples
from benchmarks.experiments.toy.task.sets import read_set, write_set
from seppo_core.io.atomic import save_json, save_text
from seppo_core.toy.captions import Modality, held_out, train_captions


def write_start(folder: Path, modality: Modality, seed: int, count: int, training: int | None = None) -> float:
    """Writes all of it anew; returns the mean exact score of the draws. `training` takes so many prompts, not all."""
    known = train_captions(modality)
    captions = [known[i % len(known)] for i in range(count)]
    drawn = draw_samples(modality, captions, torch.Generator().manual_seed(seed))
    shutil.rmtree(folder / "continued", ignore_errors=True)
    pixels, _ = read_set(write_set(folder / "continued", modality, drawn, captions))
    chosen = known if training is None else [known[i * len(known) // training] for i in range(training)]
    save_text(folder / "training.txt", "\n".join(chosen) + "\n")
    save_text(folder / "held-out.txt", "\n".join(held_out(modality)) + "\n")
    score = score_samples(modality, pixels, captions).mean().item()
    save_json(folder / "start.json", {"continued": round(score, 4)})
    return score


if __name__ == "__main__":
    kind, where, *numbers = sys.argv[1:]
    print(f"continued: mean score {write_start(Path(where), kind, *map(int, numbers)):.4f}")
