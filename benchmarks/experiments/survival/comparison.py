"""What a disturbed run must share with an undisturbed one, bit for bit."""

import json
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.experiments.survival.run_under_test import RunUnderTest
from seppo_core.io.hashing import sha256_file
from seppo_core.run.checkpoint import CheckpointFolder, load_checkpoint
from seppo_core.run.history import read_metrics

TIMINGS = ("seconds", "data_seconds", "samples_per_second")


def compare(life: RunUnderTest, undisturbed: RunUnderTest) -> dict[str, bool]:
    """Whether each compared part is the same, bit for bit."""
    ours, theirs = (CheckpointFolder(one.run / "checkpoints").latest() for one in (life, undisturbed))
    a, b = load_checkpoint(ours), load_checkpoint(theirs)
    return {
        "last update": a.progress == b.progress,
        "weights": equal(a.policy, b.policy),
        "optimiser": equal(a.optimizer, b.optimizer) and equal(a.scheduler, b.scheduler),
        "metrics": _metrics(life) == _metrics(undisturbed),
        "references": _files(life.run / "pool") == _files(undisturbed.run / "pool"),
        "cache": _shards(life) == _shards(undisturbed),
        "export": _files(life.export) == _files(undisturbed.export),
        "nothing half-written": not life.half_written(),
    }


def equal(a: object, b: object) -> bool:
    """Whether two nests of dicts, lists and tensors are the same, bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(one, other) for one, other in zip(a, b, strict=True))
    return a == b


def _metrics(life: RunUnderTest) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in read_metrics(life.run)]


def _shards(life: RunUnderTest) -> dict[str, str]:
    manifest = json.loads((life.cache / "manifest.json").read_text(encoding="utf-8"))
    files = {path.name: path for path in life.cache.iterdir() if path.suffix in (".safetensors", ".jsonl")}
    return {name: _hash(path) for name, path in files.items()} | {"fingerprint": manifest["fingerprint"]}


def _files(folder: Path) -> dict[str, str]:
    """Hashes of all weights under a folder, and of its JSON: no names of folders in them."""
    found = (path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json", ".txt"))
    return {str(path.relative_to(folder)): _hash(path) for path in found}


def _hash(path: Path) -> str:
    return sha256_file(path)
