"""The files that a base's parts are loaded from, as they lie on this machine."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from seppo_core.config.model import ModelConfig

_WEIGHTS = re.compile(
    r"[^.]+?(?:\.(?P<variant>[^.]+?))?(?:-\d{5}-of-\d{5})?(?:\.(?P<late>[^.]+?))?\.(?:safetensors|bin)"
)
"""A weight file's name: with a variant before or behind the number of the shard, or with none."""


def local_place(source: str, revision: str | None = None) -> Path | None:
    """The folder or file here that `source`, a path or a hub id, is loaded from; None if there is none."""
    path = Path(source).expanduser()
    if path.exists():
        return path
    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        # not downloaded, or no hub id
        return None


def part_files(model: ModelConfig, part: str) -> list[Path]:
    """The files of one part of the pipeline, e.g. "vae" or "tokenizer", or of the "lora" on it: its weights, and the
    JSON files and vocabularies beside them. Empty if they cannot be told.

    A model that the config puts in the part's place counts instead of the base's own; of a base in a single file, that
    file is every part, with what lies beside it.
    """
    replaced = model.lora if part == "lora" else model.parts().get(part)
    place = local_place(model.base, model.revision) if replaced is None else local_place(replaced)
    if place is None:
        return []
    if place.is_file():
        beside = None if model.single_file_config is None else local_place(model.single_file_config)
        return [place, *(files_of(beside / part) if beside is not None and replaced is None else [])]
    folder = place / part if replaced is None else place
    return files_of(folder, model.variant if replaced is None else None)


def files_of(folder: Path, variant: str | None = None) -> list[Path]:
    """The files directly in `folder` that a model is loaded from, by name: of the weights those of `variant`, if there
    are any, and else those of none."""
    if not folder.is_dir():
        return []
    there = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    weights = [path for path in there if path.suffix == ".safetensors"]
    weights = weights or [path for path in there if path.suffix == ".bin"]
    of_variant = [path for path in weights if _variant(path.name) == variant]
    plain = [path for path in weights if _variant(path.name) is None]
    others = [path for path in there if path.suffix in (".json", ".txt", ".model")]
    # the index says in which shard a tensor is, and the shards' own content says what
    others = [path for path in others if not path.name.endswith(".index.json")]
    return sorted([*(of_variant or plain or weights), *others])


def _variant(name: str) -> str | None:
    found = _WEIGHTS.fullmatch(name)
    return None if found is None else found["variant"] or found["late"]
