"""Rank and alpha of a LoRA that training continues, read from its file before the base is loaded. Imports no torch."""

import json
from pathlib import Path
from struct import error, unpack
from typing import Any, NamedTuple

from seppo_core.config.base_files import file_problem
from seppo_core.config.schema import Config

PEFT_FILES = ("adapter_model.safetensors", "adapter_config.json")
"""Tensors and config in a folder as peft writes it."""
METADATA = "lora_adapter_metadata"
"""Under which diffusers keeps peft's config in a file's metadata."""
SUFFIX = ".safetensors"
_DOWN = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight")
"""Endings of the factors (rank, in, ...)."""
_SCALARS = {"F32": "<f", "F16": "<e", "F64": "<d"}


class Continued(NamedTuple):
    """What peft's config of a LoRA says once it stands on its base."""

    rank: int
    alpha: float
    differs: bool
    """Whether layers have other alphas."""


def check_rank(config: Config, found: Continued) -> None:
    """ValueError if `tune` asks for another rank or alpha than the LoRA that is continued has."""
    tune, lora = config.tune, config.model.lora
    if found.rank != tune.rank:
        raise ValueError(
            f"tune.rank={tune.rank}, but the LoRA {lora} that is continued has rank {found.rank}; "
            f"set tune.rank={found.rank}"
        )
    if tune.alpha is not None and found.differs:
        raise ValueError(
            f"tune.alpha={tune.alpha}, but the LoRA {lora} that is continued has alphas that "
            "differ by layer; leave tune.alpha null, which keeps each"
        )
    if tune.alpha is not None and tune.alpha != found.alpha:
        raise ValueError(
            f"tune.alpha={tune.alpha}, but the LoRA {lora} that is continued has alpha "
            f"{found.alpha}; set tune.alpha={found.alpha} or leave it null"
        )


def check_lora_file(config: Config) -> None:
    """`check_rank` by the file of `model.lora`, where it is on this machine and says what will stand on the base.

    Whatever is left open here, files of several ranks or in a layout that diffusers converts first, and damage, is told
    once the base has loaded.
    """
    if config.model.lora is None or config.tune.mode != "lora":
        return
    found = _of_file(Path(config.model.lora), "unet" if config.model.spec.unet else "transformer")
    if found is not None:
        check_rank(config, found)


def _of_file(place: Path, component: str) -> Continued | None:
    files = sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else [place]
    # of several, diffusers chooses
    if len(files) != 1 or files[0].suffix != SUFFIX or file_problem(files[0]) is not None:
        return None
    try:
        tensors, written = PEFT_FILES
        if place.is_dir() and files[0].name == tensors:
            return _of_peft(json.loads((place / written).read_text(encoding="utf-8")))
        with files[0].open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        metadata = (header.pop("__metadata__", None) or {}).get(METADATA)
        if metadata is not None:
            own = {key: value for key, value in json.loads(metadata).items() if key.startswith(f"{component}.")}
            return _of_peft({key.removeprefix(f"{component}."): value for key, value in own.items()})
        return _of_tensors(files[0], header, component)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, error):
        return None


def _of_peft(content: dict[str, Any]) -> Continued:
    return Continued(content["r"], content["lora_alpha"], bool(content.get("alpha_pattern")))


def _of_tensors(file: Path, header: dict[str, Any], component: str) -> Continued | None:
    """Of a file in diffusers' names, or in kohya's of a UNet, whose layers are the pipeline's; None if there are layers
    of several ranks, or none."""
    begins = (f"{component}.", *(["lora_unet_"] if component == "unet" else []))
    downs = {
        name.removesuffix(ending): entry["shape"][0]
        for name, entry in header.items()
        for ending in _DOWN
        if name.startswith(begins) and name.endswith(ending)
    }
    ranks = set(downs.values())
    if len(ranks) != 1 or any("dora_scale" in name for name in header):
        return None
    rank = ranks.pop()
    alphas = {name.removesuffix(".alpha") for name in header if name.startswith(begins) and name.endswith(".alpha")}
    if not alphas:
        return Continued(rank, rank, False)
    if component != "unet":
        return None
    # a layer without an alpha has its rank's
    found = [_scalar(file, header[f"{name}.alpha"]) if name in alphas else float(rank) for name in downs]
    return Continued(rank, found[0], len(set(found)) > 1)


def _scalar(file: Path, entry: dict[str, Any]) -> float:
    """The number in a tensor of one; KeyError or struct.error if it is none that is read here."""
    kind = _SCALARS[entry["dtype"]]
    with file.open("rb") as opened:
        start = 8 + int.from_bytes(opened.read(8), "little")
        first, end = entry["data_offsets"]
        opened.seek(start + first)
        return unpack(kind, opened.read(end - first))[0]
