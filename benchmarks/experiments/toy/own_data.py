"""`python -m benchmarks.experiments.toy.own_data FOLDER MODALITY SAMPLES ROUNDS [BASE]` ranks samples of a base itself.

    own/prompts.txt            the captions of the sets, one a line
    own/round-N/               what `rank` writes: samples, their exact scores, the table of pairs
    own/winners.jsonl          the best of each caption's samples
    own/pairs.jsonl            the best with the worst
    own/labels.jsonl           both, as good and bad
    own.json                   written last: settings, and what base, winners and losers score

The command is the product's own `rank` with the exact score as its judge; each round has noises of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.data import training
from benchmarks.experiments.toy.plan import config_path
from seppo_core.io.atomic import save_json, save_text
from seppo_core.run.history import read_lines
from seppo_core.toy.captions import Modality
from seppo_image.__main__ import main as image_main
from seppo_video.__main__ import main as video_main

JUDGES = {
    "image": "seppo_core.toy.score:score_images",
    "video": "seppo_core.toy.score:score_videos",
}
BATCH = {"image": 64, "video": 16}


def write_own(folder: Path, modality: Modality, samples: int, rounds: int, base: str | None = None) -> dict[str, float]:
    """Draws, ranks and writes the tables; returns the mean scores. Goes on with what was begun. `base` None is the one
    that the configs name.

    RuntimeError if the command fails.
    """
    own = folder / "own"
    captions = training(modality)
    save_text(own / "prompts.txt", "\n".join(captions) + "\n")
    rows: list[dict] = []
    scores: list[float] = []
    for number in range(rounds):
        out = own / f"round-{number}"
        arguments = [
            "rank", str(ROOT / config_path(modality, ARMS["sft"])), "--judge", JUDGES[modality],
            "--supervision", "pairs", "--prompt_file", str(own / "prompts.txt"), "--samples", str(samples),
            "--first_seed", str(number * samples), "--batch_size", str(BATCH[modality]), "--out", str(out),
            *(() if base is None else ("--model.base", base)),
        ]  # fmt: skip
        if (image_main if modality == "image" else video_main)(arguments) != 0:
            raise RuntimeError(f"rank failed in {out}; what it said stands above")
        scores += [line["score"] for line in read_lines(out / "scores.jsonl")]
        for row in read_lines(out / "metadata.jsonl"):
            rows.append(row | {key: f"{out.name}/{row[key]}" for key in ("file_name", "loser_file_name")})
    _table(own / "winners.jsonl", [_item(row, "file_name") for row in rows])
    losers = ("loser_file_name", "loser_noise_key")
    _table(own / "pairs.jsonl", [_item(row, "file_name") | {key: row[key] for key in losers} for row in rows])
    _table(
        own / "labels.jsonl",
        [_item(row, key) | {"label": key == "file_name"} for row in rows for key in ("file_name", "loser_file_name")],
    )
    means = {
        "base": float(np.mean(scores)),
        f"best of {samples}": float(np.mean([row["score"] for row in rows])),
        f"worst of {samples}": float(np.mean([row["loser_score"] for row in rows])),
    }
    means = {name: round(value, 4) for name, value in means.items()}
    save_json(folder / "own.json", {"samples": samples, "rounds": rounds, "pairs": len(rows), "scores": means})
    return means


def _item(row: dict, key: str) -> dict:
    noise = row["noise_key" if key == "file_name" else "loser_noise_key"]
    return {"file_name": row[key], "caption": row["caption"], "noise_key": noise}


def _table(path: Path, rows: list[dict]) -> None:
    save_text(path, "".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    folder, modality, samples, rounds, *base = sys.argv[1:]
    for name, score in write_own(Path(folder), modality, int(samples), int(rounds), *base).items():
        print(f"{name}: mean score {score}")
