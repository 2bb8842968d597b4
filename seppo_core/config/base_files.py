"""What can be told of a base from its folder before anything is loaded: its pipeline, its parts and their files.

Imports no torch, and reads no more than a few kB of any file.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
CONFIG = "config.json"
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_)?model(?:\.(?P<early>\w+))?(?:-\d{5}-of-(?P<shards>\d{5}))?(?:\.(?P<late>\w+))?\.safetensors"
)
_PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")
_HUB = Path(os.environ.get("HF_HUB_CACHE", Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub"))).expanduser()
"""The hub's local cache, where huggingface_hub keeps it."""
_POINTER = b"version https://git-lfs"
_COPY = "copy the whole folder of the model that it was made from"


def read_index(folder: Path) -> dict[str, Any]:
    """The content of `model_index.json`; FileNotFoundError if there is none, ValueError if it is no JSON object."""
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"base={str(folder)!r} has no {INDEX}; give the folder of a saved diffusers pipeline")
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("_class_name"), str):
        raise ValueError(f"{path} does not name the class of a diffusers pipeline; download it again")
    return found


def read_json(path: Path) -> Any:
    """What a JSON file holds; ValueError, with the cure, if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        if _is_pointer(path):
            raise ValueError(f"{path} is a Git LFS pointer, not the file; run `git lfs pull` in its folder") from error
        raise ValueError(f"{path} is not a JSON file ({error}); download it again") from error


def known_pipeline(base: str, shipped: Path) -> str | None:
    """The pipeline class of a local folder, or of a hub id that `shipped` numbers name or that was downloaded before.

    None if nothing is known of `base` without network.
    """
    folder = Path(base).expanduser()
    try:
        if folder.is_dir():
            return read_index(folder)["_class_name"]
        if folder.is_file():
            return None
        for path in sorted(shipped.glob("*.json")):
            numbers = read_json(path)
            if base in numbers["names"] and "model_index" in numbers:
                return numbers["model_index"]["_class_name"]
        cached = _HUB / f"models--{base.replace('/', '--')}" / "snapshots"
        return next((read_index(one)["_class_name"] for one in cached.glob("*") if (one / INDEX).is_file()), None)
    except (OSError, ValueError):
        # whatever is wrong with the folder is told when it is checked
        return None


def is_offline() -> bool:
    """Whether the environment forbids the hub's client to ask the network."""
    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return asked.upper() in ("1", "ON", "YES", "TRUE")


def is_cached(name: str) -> bool:
    """Whether anything of a hub id is in the hub's local cache."""
    return any((_HUB / f"models--{name.replace('/', '--')}" / "snapshots").glob("*"))


def not_cached(key: str, name: str, why: str = "HF_HUB_OFFLINE is set") -> str:
    """That a hub id is neither here nor to be had, and what to do about it."""
    return (
        f"{key}={name} is not in the cache ({_HUB}) and {why}; load it where the hub can be reached and HF_HUB_OFFLINE "
        f"is not set (the same command does, or `hf download {name}`), or give {key} a folder that holds it"
    )


def parts_of(index: dict[str, Any], without: Collection[str] = ()) -> dict[str, tuple[str, str]]:
    """Library and class of every component that a pipeline was saved with, but for those in `without`."""
    return {
        name: tuple(value)
        for name, value in index.items()
        # [None, None] marks a component that the pipeline was saved without
        if isinstance(value, list) and len(value) == 2 and value[0] is not None and name not in without
    }


def base_problems(folder: Path, variant: str | None, without: Collection[str] = ()) -> list[str]:
    """What keeps a pipeline's parts, but for those in `without`, from being loaded, each with its cure."""
    parts_by_problem, variants_of = defaultdict(list), {}
    for name, (library, kind) in parts_of(read_index(folder), without).items():
        for problem in folder_problems(folder / name, library, kind):
            parts_by_problem[problem].append(name)
        if (folder / name).is_dir() and _is_model(kind):
            variants_of[name] = weight_files(folder / name).keys()
    problems = [f"{listed(parts)}: {problem}" for problem, parts in parts_by_problem.items()]
    named = sorted({one for found in variants_of.values() for one in found if one is not None})
    if variant is not None and named and variant not in named:
        return [*problems, f"there are no weights of the variant {variant}, but of {listed(named)}; set model.variant"]
    if variant is not None and not named:
        return [*problems, f"there are no weights of the variant {variant}; leave model.variant out"]
    only = [name for name, found in variants_of.items() if found and variant not in found and None not in found]
    if only:
        problems.append(
            f"{listed(only)}: there are weights of the variant {listed(named)} alone; set model.variant={named[0]}"
        )
    return problems


def model_problems(folder: Path) -> list[str]:
    """The same of a folder that holds a single model, such as a VAE."""
    return _part_problems(folder, "")


def weight_files(folder: Path) -> dict[str | None, list[Path]]:
    """The safetensors files of a model's folder by variant; None is the variant without a name."""
    found: dict[str | None, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if match := _WEIGHTS.fullmatch(path.name):
            found[match["early"] or match["late"]].append(path)
    return dict(found)


def part_variant(folder: Path, variant: str | None) -> str | None:
    """`variant` if the model in `folder` has weights of it; else None, for not all parts of a base come in each."""
    return variant if variant in weight_files(folder) else None


def file_problem(path: Path) -> str | None:
    """What is wrong with a safetensors file by its head and its length; None if nothing is."""
    if not path.is_file():
        return f"{path.name} is a link to a file that is not there; download it again"
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
        if start == _POINTER:
            return f"{path.name} is a Git LFS pointer, not the file; run `git lfs pull` in its folder"
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return f"{path.name} is cut off, or no safetensors file ({size} bytes); download it again"
        try:
            header = json.loads(file.read(length))
            entries = [entry for name, entry in header.items() if name != "__metadata__"]
            ends = [entry["data_offsets"][1] for entry in entries if entry["shape"] is not None and entry["dtype"]]
        except (ValueError, AttributeError, TypeError, KeyError, IndexError):
            return f"{path.name} has a damaged header; download it again"
    whole = 8 + length + max(ends, default=0)
    return None if size == whole else f"{path.name} has {size} of {whole} bytes; download it again"


def folder_problems(folder: Path, library: str, kind: str) -> list[str]:
    """What keeps the component of class `kind` in `folder` from being loaded."""
    if not folder.is_dir():
        return [f"there is no such folder; {_COPY}"]
    if (folder / f"{library}.py").is_file():
        return [f"needs code of its own ({library}.py), which is never run; use another base"]
    return _part_problems(folder, kind)


def _part_problems(folder: Path, kind: str) -> list[str]:
    pointers = [path.name for path in sorted(folder.iterdir()) if _is_pointer(path)]
    if pointers:
        return [f"holds Git LFS pointers in place of files ({_some(pointers)}); run `git lfs pull` in {folder}"]
    if kind.endswith("Scheduler"):
        # without any key, diffusers would take a class's defaults, which are no base's
        return json_problems(folder / "scheduler_config.json", "_class_name")
    if "Tokenizer" in kind:
        return _tokenizer_problems(folder)
    if not _is_model(kind):
        return []
    if problems := json_problems(folder / CONFIG):
        return problems
    variants = weight_files(folder)
    if not variants:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
        if not pickled:
            return [f"holds no weights (*.safetensors); {_COPY}"]
        return [
            f"holds weights as {pickled[0].rpartition('.')[2]} files alone, which can run code and are never read; "
            "if you trust them, convert them: diffusers.DiffusionPipeline.from_pretrained(BASE).save_pretrained(NEW)"
        ]
    files = [path for paths in variants.values() for path in paths]
    return [problem for path in files if (problem := file_problem(path))] + _lost_shards(variants)


def _lost_shards(variants: dict[str | None, list[Path]]) -> list[str]:
    lost = []
    for files in variants.values():
        matches = [_WEIGHTS.fullmatch(path.name) for path in files]
        wanted = max((int(match["shards"]) for match in matches if match["shards"]), default=0)
        if len(files) < wanted:
            lost.append(f"holds {len(files)} of the {wanted} files of its weights; download it again")
    return lost


def _tokenizer_problems(folder: Path) -> list[str]:
    found = [name for name in _VOCABULARIES if (folder / name).is_file()]
    if not found:
        return [f"holds no vocabulary ({', '.join(_VOCABULARIES[:4])} …); {_COPY}"]
    if found == ["vocab.json"] and not (folder / "merges.txt").is_file():
        return [f"holds a vocab.json and no merges.txt; {_COPY}"]
    # older vocabularies have no config, or none but a config
    needs = {"tokenizer.json": ("model",), "vocab.json": (), "tokenizer_config.json": ()}
    there = {name: keys for name, keys in needs.items() if os.path.lexists(folder / name)}
    return [problem for name, keys in there.items() for problem in json_problems(folder / name, *keys)]


def json_problems(path: Path, *keys: str) -> list[str]:
    """What is wrong with a JSON file of names and values, in which at least `keys` have to be."""
    if not path.is_file():
        what = "which is a folder, or a link to nothing" if os.path.lexists(path) else ""
        return [f"holds no {path.name}{what and f', {what}'}; {_COPY}"]
    try:
        found = read_json(path)
    except ValueError as error:
        return [str(error)]
    if not isinstance(found, dict):
        return [f"{path} holds no keys and values; download it again"]
    return [f"{path} has no {key}; download it again" for key in keys if key not in found]


def _is_model(kind: str) -> bool:
    return not kind.endswith(("Scheduler", "Processor", "Extractor", "ProcessorFast")) and "Tokenizer" not in kind


def _is_pointer(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > 1024:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def listed(names: Collection[str]) -> str:
    """The names in one phrase."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
