"""What the gauge reads from runs, caches and exports, and how it compares two readings."""

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from safetensors.torch import load_file

LATER = ("drift",)
"""Metrics that the old commit does not log."""
SHOWN = 160
"""Characters of a value that a difference shows."""


class Difference(NamedTuple):
    """The first place at which two readings differ; keys of nested values are joined by dots."""

    key: str
    old: str
    new: str


def first_difference(old: Any, new: Any, key: str = "") -> Difference | None:
    """Compares nested dicts, lists and values exactly; None if they are equal. NaN equals NaN."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(name for name in new if name not in old)]
        pairs: Iterable = ((name, old.get(name, "(missing)"), new.get(name, "(missing)")) for name in keys)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return Difference(f"{key}.length", str(len(old)), str(len(new)))
        pairs = zip(range(len(old)), old, new, strict=True)
    else:
        # repr tells 1 from 1.0 and True, and every float from every other
        same = repr(old) == repr(new)
        return None if same else Difference(key, repr(old)[:SHOWN], repr(new)[:SHOWN])
    for name, one, other in pairs:
        found = first_difference(one, other, f"{key}.{name}" if key else str(name))
        if found is not None:
            return found
    return None


def run_facts(run: Path, signs: bool = True) -> dict[str, Any]:
    """The metrics without their timing, the last checkpoint's tensors, and the pool's. Fingerprints
    are left out, since their kind may change; so are the shares of signs unless `signs`, which the
    old commit logs of methods without an anchor too."""
    checkpoint = sorted((run / "checkpoints").glob("update-*"))[-1]
    return {
        "metrics": [
            # the rate was that of the next update
            {
                key: value
                for key, value in json.loads(line).items()
                if "second" not in key and key not in ("lr", *LATER) and (signs or not key.startswith("share_s_"))
            }
            for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ],
        "checkpoint": checkpoint.name,
        "weights": {path.name: tensor_digests(path) for path in sorted(checkpoint.glob("*.safetensors"))},
        "pool": {path.name: tensor_digests(path) for path in sorted((run / "pool").glob("*.safetensors"))},
    }


def cache_facts(cache: Path) -> dict[str, Any]:
    """The settings but for those of the model and of decoding, and the content of all tensors, whatever their names.

    The old commit wrote another kind of fingerprint of the model, and neither the model's own keys nor what decodes.
    """
    manifest = json.loads((cache / "manifest.json").read_text(encoding="utf-8"))
    tensors = [digest for path in cache.glob("*.safetensors") for digest in tensor_digests(path).values()]
    return {
        "settings": {
            name: value for name, value in manifest["settings"].items() if not name.startswith(("model", "decoding"))
        },
        "tensors": sorted(tensors),
        "items.jsonl": (cache / "items.jsonl").read_text(encoding="utf-8"),
    }


def export_facts(folder: Path) -> dict[str, Any]:
    """The names of all files and the content of the weights. Texts are left out, because their wording may change."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "files": [str(path.relative_to(folder)) for path in files],
        "weights": {
            str(path.relative_to(folder)): file_digest(path) for path in files if path.suffix == ".safetensors"
        },
    }


def file_digest(path: Path) -> dict[str, str]:
    """Header, metadata and bytes of a safetensors file. The library writes the metadata in a random order."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__", {})
    return {
        "metadata": json.dumps(metadata, sort_keys=True),
        "header": _digest(json.dumps(header).encode()),
        "bytes": _digest(content[start:]),
    }


def picture_digests(folder: Path) -> dict[str, str]:
    """Size and a hash of the pixels of every PNG under `folder`."""
    found = {}
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as picture:
            found[str(path.relative_to(folder))] = f"{picture.size} {_digest(picture.convert('RGB').tobytes())}"
    return found


def tensor_digests(path: Path) -> dict[str, str]:
    """Name, type, shape and a hash of the bytes of every tensor in a safetensors file."""
    return {
        name: f"{tensor.dtype} {tuple(tensor.shape)} {_digest(tensor.contiguous().numpy().tobytes())}"
        for name, tensor in sorted(load_file(path).items())
    }


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]
