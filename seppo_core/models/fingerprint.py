"""Tells one base from another by the content of the files that it is loaded from.

A fingerprint names the classes of the models and, for each part, a hash of its files: of weights and vocabularies the
bytes, of JSON files what they say but for notes of versions and precision. It is of files, not of the tensors in
memory, for these depend on the precision they are loaded in, and files are hashed once (`remembered`). The same
weights in other files (one file or shards, float16 or float32, another tensor order) are therefore another base.

Runs and caches of earlier versions hold a fingerprint of the signs of a few weights; it is computed for them still.
"""

import json
import re
from collections.abc import Iterable
from hashlib import blake2b, sha256
from pathlib import Path

import torch
from torch import nn

from seppo_core.config.model import ModelConfig
from seppo_core.io.hashing import sha256_json
from seppo_core.io.remembered import remembered_hashes
from seppo_core.models.adapter import Adapter
from seppo_core.models.base_files import part_files

VALUES_PER_PARAMETER = 64
CONTENT = " content "
"""Between the classes and the hashes of the parts."""
_SIGNS = re.compile(r"\S+ [0-9a-f]{16}")
_NOTES = {"transformers_version", "torch_dtype", "dtype"}
"""Keys of a model's config that change nothing of what it computes, beside those that begin with an underscore."""
_SCHEDULER = "scheduler"


def frozen_fingerprint(adapter: Adapter, model: ModelConfig, like: str | None = None) -> str:
    """Names the parts that latents and embeddings come from: all models of the pipeline but the denoiser, and the
    tokenizers. A cache made with others must not be trained on.

    `like` is a recorded fingerprint, whose kind is kept.
    """
    parts = {
        name: part
        for name, part in sorted(adapter.pipeline.components.items())
        if (isinstance(part, nn.Module) and part is not adapter.denoiser)
        or (name.startswith("tokenizer") and part is not None)
    }
    models = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    classes = "+".join(type(part).__name__ for part in models.values())
    files = {name: part_files(model, name) for name in parts}
    if _of_signs(like) or not all(files.values()):
        return _signs(classes, models)
    return classes + CONTENT + _hashes(files)


def denoiser_fingerprint(adapter: Adapter, model: ModelConfig, like: str | None = None) -> str:
    """Names the denoiser in the same way, with the scheduler's config and what `model` puts on it; to be asked for
    before anything is tuned or trained."""
    name, denoiser = adapter.component, adapter.denoiser
    files = {name: part_files(model, name)}
    if _of_signs(like) or not all(files.values()):
        return _signs(type(denoiser).__name__, {name: denoiser})
    files[_SCHEDULER] = part_files(model, _SCHEDULER)
    beside = {key: source for key, source in model.parts().items() if not isinstance(_part(adapter, key), nn.Module)}
    for key, source in (beside | {"lora": model.lora}).items():
        files[key] = [] if source is None else part_files(model, key)
    return type(denoiser).__name__ + CONTENT + _hashes(files)


def difference(recorded: str, now: str) -> str:
    """How two fingerprints differ: the parts, e.g. "tokenizer, vae", or both of them if they do not tell parts."""
    if CONTENT not in recorded or CONTENT not in now:
        return f"{recorded} there, {now} now"
    before, after = (dict(part.split("=") for part in f.partition(CONTENT)[2].split()) for f in (recorded, now))
    parts = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(parts) or f"{recorded.partition(CONTENT)[0]} there, {now.partition(CONTENT)[0]} now"


def changed_parts(recorded: str, model: ModelConfig) -> list[str]:
    """The parts whose files are not those of a recorded fingerprint, without loading anything; none if it does not tell
    parts."""
    parts = dict(part.split("=") for part in recorded.partition(CONTENT)[2].split())
    return [name for name, was in parts.items() if _hashes({name: part_files(model, name)}) != f"{name}={was}"]


def _part(adapter: Adapter, name: str) -> object:
    return adapter.pipeline.components.get(name)


def _hashes(files: dict[str, list[Path]]) -> str:
    """`name=hash` of every part that has files."""
    every = [path for paths in files.values() for path in paths]
    hashes = dict(zip(every, remembered_hashes(every), strict=True))
    return " ".join(f"{name}={_of_files(paths, hashes)}" for name, paths in sorted(files.items()) if paths)


def _of_files(paths: Iterable[Path], hashes: dict[Path, str]) -> str:
    digest = sha256()
    for path in paths:
        digest.update((_of_config(path) or hashes[path]).encode())
    return digest.hexdigest()[:16]


def _of_config(path: Path) -> str | None:
    """What a config says; None for other files."""
    if not path.name.endswith("config.json"):
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        said = {key: value for key, value in found.items() if not key.startswith("_") and key not in _NOTES}
    except (ValueError, AttributeError):
        return None
    return sha256_json(said)


def _of_signs(fingerprint: str | None) -> bool:
    return fingerprint is not None and _SIGNS.fullmatch(fingerprint) is not None


@torch.no_grad()
def _signs(classes: str, models: dict[str, nn.Module]) -> str:
    """The fingerprint of earlier versions: class, shapes, and the signs of a few values of every parameter.

    Signs stay what they are in bfloat16 and, of all that is not too small for it, in float16; digits do not.
    """
    digest = blake2b(digest_size=8)
    for name, module in models.items():
        digest.update(type(module).__name__.encode())
        for key, parameter in module.named_parameters():
            values = parameter.detach().flatten()
            some = values[:: max(1, len(values) // VALUES_PER_PARAMETER)]
            digest.update(f"{name}.{key}{tuple(parameter.shape)}".encode())
            # what float16 makes zero has no sign there
            digest.update((some.to(torch.float16) > 0).to("cpu", torch.uint8).numpy().tobytes())
    return f"{classes} {digest.hexdigest()}"
