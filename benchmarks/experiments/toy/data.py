"""`python -m benchmarks.experiments.toy.data FOLDER MODALITY SIZE SEED` writes the comparison's data as plain files.

    winners/ losers/ continued/ weak/   pictures or clips, each with its own metadata.jsonl
    pairs.jsonl                         file_name, loser_file_name, caption: the two draws of each caption
    labels.jsonl                        file_name, label, caption: the pairs taken apart
    few.jsonl                           some of the winners
    data.json                           written last: settings, and what each set scores

All methods see the same winners: the better of two draws of the mixture. `weak` is the middle one of three. Learning
rates are chosen on captions that no set holds and that are none of the held-out ones, which score the table.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.experiments.toy.task.mixture import draw_pairs, draw_samples, score_samples
from benchmarks.experiments.toy.task.sets import read_set, write_set
from seppo_core.io.atomic import save_json, save_text
from seppo_core.toy.captions import Modality, train_captions

REVISION = 1
"""Raised when a change here changes what is written."""
SPLIT = 8
"""One in so many training captions is for validation."""
FEW = 64
SOURCES = {
    "winners": "winners",
    "pairs": "pairs.jsonl",
    "either": "pairs.jsonl",
    "labels": "labels.jsonl",
    "prompts": "pairs.jsonl",
    "continued": "continued",
    "few": "few.jsonl",
    "weak": "weak",
    "own_winners": "own/winners.jsonl",
    "own_pairs": "own/pairs.jsonl",
    "own_labels": "own/labels.jsonl",
}
"""The folder or table to give to `data.source`, by kind of data. `either` is read by a config with
`data.pick: random`, and of `prompts` the captions alone."""


def validation(modality: Modality) -> list[str]:
    """Captions that learning rates are chosen on. The base knows them, no fine-tuning set does."""
    # a step that shares no factor with the attributes' sizes meets all their values
    return train_captions(modality)[3::SPLIT]


def training(modality: Modality) -> list[str]:
    """Captions of the sets."""
    left_out = set(validation(modality))
    return [caption for caption in train_captions(modality) if caption not in left_out]


def write_data(folder: Path, modality: Modality, size: int, seed: int) -> dict:
    """Writes all of it, and returns the content of data.json.

    What lies there of the same settings is left as it is; ValueError if it is of others.
    """
    settings = {"modality": modality, "size": size, "seed": seed, "revision": REVISION}
    marker = folder / "data.json"
    if marker.is_file():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if found["settings"] != settings:
            raise ValueError(f"{folder} holds data of {found['settings']}, not of {settings}; name another --out")
        return found
    for name in ("winners", "losers", "continued", "weak"):
        # begun and not finished: data.json is missing
        shutil.rmtree(folder / name, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    known = training(modality)
    captions = [known[i % len(known)] for i in range(size)]
    pairs = draw_pairs(modality, captions, generator)
    sets = {
        "winners": pairs.winners,
        "losers": pairs.losers,
        "continued": draw_samples(modality, captions, generator),
        "weak": _middle_of_three(modality, captions, generator),
    }
    scores = {}
    for name, pixels in sets.items():
        written, _ = read_set(write_set(folder / name, modality, pixels, captions))
        scores[name] = round(score_samples(modality, written, captions).mean().item(), 4)
    suffix = "png" if modality == "image" else "mp4"
    winners, losers = ([f"{name}/{i:04d}.{suffix}" for i in range(size)] for name in ("winners", "losers"))
    rows = list(zip(winners, losers, captions, strict=True))
    _table(folder / "pairs.jsonl", [{"file_name": w, "loser_file_name": x, "caption": c} for w, x, c in rows])
    _table(
        folder / "labels.jsonl",
        [{"file_name": file, "label": file == w, "caption": c} for w, x, c in rows for file in (w, x)],
    )
    chosen = torch.randperm(size, generator=generator)[:FEW].sort().values.tolist()
    _table(folder / "few.jsonl", [{"file_name": winners[i], "caption": captions[i]} for i in chosen])
    found = {"settings": settings, "scores": scores}
    save_json(marker, found)
    return found


def _middle_of_three(modality: Modality, captions: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    draws = torch.stack([draw_samples(modality, captions, generator) for _ in range(3)])
    scores = torch.stack([score_samples(modality, pixels, captions) for pixels in draws])
    return draws[scores.argsort(dim=0)[1], torch.arange(len(captions))]


def _table(path: Path, rows: list[dict]) -> None:
    save_text(path, "".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    found = write_data(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    for name, score in found["scores"].items():
        print(f"{name}: mean score {score}")
