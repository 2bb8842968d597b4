"""A base's architecture in numbers, without its weights and without network: what its config.json files say."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from seppo_core.config.model import ModelConfig
from seppo_core.config.schema import Config
from seppo_core.config.single_file import layout_of, numbers_of, read_header

INDEX = "model_index.json"
CONFIG = "config.json"
_NAMES = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
"""Names of config files other than `config.json`, by the beginning of a component's name (tokenizer_2)."""


@dataclass(frozen=True)
class ArchitectureConfig:
    """A pipeline's `model_index.json`, and the config of each of its components by name."""

    origin: str
    """Where the numbers come from, in words."""
    index: dict[str, Any]
    parts: dict[str, dict[str, Any]]


def base_architecture(config: Config) -> ArchitectureConfig:
    """The numbers of the config's base (see `pipeline_architecture`)."""
    return model_architecture(config.model)


def model_architecture(model: ModelConfig) -> ArchitectureConfig:
    """The numbers of the base that `model` names."""
    if Path(model.base).expanduser().is_file():
        return file_architecture(Path(model.base).expanduser(), model.single_file_config, model.bases)
    return pipeline_architecture(model.base, model.bases, model.revision)


def pipeline_architecture(base: str, shipped: Path, revision: str | None = None) -> ArchitectureConfig:
    """Reads the architecture of `base`: from a local folder, else from `shipped`, else from the hub's local cache.

    `shipped` is a folder of JSON files, each {"names": hub ids, "model_index": …, component: config, …}.
    Raises FileNotFoundError if nothing is known of `base`.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return _of_folder(folder, f"the folder {base}")
    found = _shipped(base, shipped)
    if found is not None and "model_index" in found:
        parts = {name: part for name, part in found.items() if name not in ("names", "model_index")}
        return ArchitectureConfig(f"numbers that come with this program for {base}", found["model_index"], parts)
    cached = try_to_load_from_cache(base, INDEX, revision=revision) if base.count("/") == 1 else None
    if isinstance(cached, str):
        return _of_folder(Path(cached).parent, f"the hub's local cache of {base}")
    raise FileNotFoundError(
        f"nothing is known of base={base!r} without network; plan knows {', '.join(known(shipped))}, local folders, "
        "and what was downloaded before: download its *.json files into a folder and name that"
    )


def file_architecture(file: Path, beside: str | None, shipped: Path) -> ArchitectureConfig:
    """That of the base in a single file: the published model's of its kind, but for what the folder `beside` says."""
    header = read_header(file)
    layout = layout_of(file, header)
    known = _json(shipped / f"{numbers_of(layout, header)}.json")
    parts = {name: part for name, part in known.items() if name not in ("names", "model_index")}
    folder = None if beside is None else Path(beside).expanduser()
    if folder is None or not (folder / INDEX).is_file():
        return ArchitectureConfig(f"numbers of {known['names'][0]}, which {file} is of", known["model_index"], parts)
    found = _of_folder(folder, f"the folder {beside}")
    return ArchitectureConfig(found.origin, found.index, parts | found.parts)


def model_numbers(name: str, shipped: Path) -> dict[str, Any] | None:
    """The config of the single model `name` (a VAE, motion modules), found as a pipeline is; None if it is unknown."""
    folder = Path(name).expanduser()
    if (folder / CONFIG).is_file():
        return _json(folder / CONFIG)
    found = _shipped(name, shipped)
    if found is not None and "config" in found:
        return found["config"]
    cached = try_to_load_from_cache(name, CONFIG) if name.count("/") == 1 else None
    return _json(Path(cached)) if isinstance(cached, str) else None


def replacements(named: dict[str, str | None], shipped: Path) -> dict[str, dict[str, Any]]:
    """Configs of the single models that stand in for a base's components; FileNotFoundError if one is unknown."""
    found = {}
    for component, name in named.items():
        if name is None:
            continue
        numbers = model_numbers(name, shipped)
        if numbers is None:
            raise FileNotFoundError(
                f"nothing is known of {component}={name!r} without network; name a local folder with its config.json"
            )
        found[component] = numbers
    return found


def known(shipped: Path) -> list[str]:
    """First name of every pipeline in `shipped`."""
    found = [_json(path) for path in sorted(shipped.glob("*.json"))]
    return [numbers["names"][0] for numbers in found if "model_index" in numbers]


def _shipped(name: str, shipped: Path) -> dict[str, Any] | None:
    for path in sorted(shipped.glob("*.json")):
        numbers = _json(path)
        if name in numbers["names"]:
            return numbers
    return None


def _of_folder(folder: Path, origin: str) -> ArchitectureConfig:
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{origin} has no {INDEX}; give the folder of a saved diffusers pipeline")
    index = _json(folder / INDEX)
    parts = {}
    for name, value in index.items():
        # [None, None] marks a component that the pipeline was saved without
        if not isinstance(value, list) or len(value) != 2 or value[0] is None:
            continue
        path = folder / name / _NAMES.get(name.partition("_")[0], CONFIG)
        if path.is_file():
            parts[name] = _json(path)
    return ArchitectureConfig(origin, index, parts)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
