"""Which models are measured: a diffusers pipeline, a base with a LoRA or another denoiser, a run folder or an export of
ours, or pictures that were made elsewhere."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from benchmarks.evaluation.media_files import TABLES, media_files
from seppo_core.config.loader import load_config, plain
from seppo_core.config.schema import Config
from seppo_core.io.remembered import remembered_hashes, remembered_sha256
from seppo_core.models.loading import pipeline_class
from seppo_core.run.find_checkpoint import find_checkpoint
from seppo_core.run.names import run_of
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

PARTS = ("lora", "motion", "unet", "vae", "config")
HASHED = (".safetensors", ".bin", ".json", ".txt", ".model", ".yaml")
GRAMMAR = (
    "name=PLACE, name=BASE+lora=PLACE, name=BASE+motion=PLACE, name=BASE+unet=PLACE, or for a base in one file "
    "name=FILE+config=FOLDER with a diffusers folder of its kind, where a place is a folder or a "
    "hub id (owner/name, owner/name@revision), and the first also a run by its folder or config (runs/x, runs/x@180 "
    "for a checkpoint), "
    "an export, or a folder of pictures made elsewhere"
)

FolderKind = Literal["pipeline", "run", "part", "pictures"]


def folder_kind(folder: Path) -> FolderKind | None:
    """What a folder holds, by its content: a whole pipeline (a base or an export), a run, an exported part (a LoRA or
    motion modules, with the config of its run), or samples. None for anything else."""
    if not folder.is_dir():
        return None
    if (folder / "model_index.json").is_file():
        return "pipeline"
    if (folder / "config.yaml").is_file():
        # exports keep the config of their run, and hold what no run has at its top: weights
        return "part" if any(folder.glob("*.safetensors")) else "run"
    return "pictures" if any(media_files(folder)) else None


@dataclass(frozen=True)
class ModelSpec:
    """One row of a report: its name, and where its weights lie."""

    name: str
    base: str
    revision: str | None = None
    """The revision of a hub id, or the checkpoint of a run folder."""
    parts: tuple[tuple[str, str], ...] = ()
    """Parts that are put on or in the base: (lora | motion | unet | vae | config, location)."""

    @property
    def is_run(self) -> bool:
        return folder_kind(Path(self.base)) == "run"

    @property
    def is_pictures(self) -> bool:
        return folder_kind(Path(self.base)) == "pictures"

    @property
    def checkpoint(self) -> str:
        return self.revision or "latest"

    @property
    def place(self) -> str:
        """As on the command line, without the name."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.base}{revision}" + "".join(f"+{part}={place}" for part, place in self.parts)

    def part(self, name: str) -> str | None:
        return dict(self.parts).get(name)


def parse_models(given: Sequence[str]) -> list[ModelSpec]:
    """`name=place` each; ValueError for another form, a name that is used twice, or a part that does not exist."""
    specs = [parse_model(text) for text in given]
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"--models names {twice[0]!r} twice; every model needs a name of its own")
    return specs


def parse_model(text: str) -> ModelSpec:
    """One of `parse_models`."""
    name, equals, rest = text.partition("=")
    name = name.strip()
    if not equals or not name or not rest or len(name) > 60:
        raise ValueError(f"--models {text!r} should be {GRAMMAR}")
    if _is_lora(Path(rest)):
        raise ValueError(f"--models {text!r} is a LoRA without its base; write {name}=BASE+lora={rest}")
    if Path(rest).exists():
        rest = str(run_of(rest))
        return _exported(name, rest) if folder_kind(Path(rest)) == "part" else ModelSpec(name, rest)
    base, *given = rest.split("+")
    parts = []
    for item in given:
        part, equals, place = item.partition("=")
        # base+place is the common case, a LoRA
        parts.append((part, place) if equals else ("lora", item))
        if parts[-1][0] not in PARTS or not parts[-1][1]:
            raise ValueError(f"--models {text!r}: {item!r} is not a part; use {', '.join(f'{p}=PLACE' for p in PARTS)}")
    place, at, revision = base.rpartition("@")
    spec = ModelSpec(name, *((str(run_of(place)), revision) if at else (base, None)), tuple(parts))
    if spec.is_run and parts:
        raise ValueError(f"--models {text!r}: a run folder brings its own parts; export it to put others on it")
    return spec


def _is_lora(place: Path) -> bool:
    """Whether a place holds a LoRA alone, without the config of a run of ours that says what it belongs on."""
    if place.is_dir():
        named = any((place / name).is_file() for name in ("pytorch_lora_weights.safetensors", "adapter_config.json"))
        return named and folder_kind(place) not in ("part", "pipeline")
    if place.suffix != ".safetensors" or not place.is_file():
        return False
    try:
        with safe_open(place, "pt") as file:
            return all("lora" in name.lower() or name.endswith((".alpha", ".dora_scale")) for name in file.keys())
    except SafetensorError:
        return False


def _exported(name: str, place: str) -> ModelSpec:
    """An exported LoRA, or exported motion modules, on the base that their run was trained on."""
    model = config_in(Path(place)).model
    given = {
        "vae": model.vae, "motion": vars(model).get("motion_adapter"), "config": model.single_file_config
    }  # fmt: skip
    parts = {part: location for part, location in given.items() if location is not None}
    motion = any(Path(place).glob("diffusion_pytorch_model*.safetensors"))
    return ModelSpec(name, model.base, model.revision, tuple((parts | {"motion" if motion else "lora": place}).items()))


def run_config(spec: ModelSpec) -> Config:
    """The config that a run folder was trained with. ValueError if it is of neither kind."""
    return config_in(Path(spec.base))


def trained_config(spec: ModelSpec) -> Config | None:
    """The config that a run, or an export of one, was trained with; None for what no run of ours made."""
    for place in (spec.base, *(place for _, place in spec.parts)):
        if (Path(place) / "config.yaml").is_file():
            return config_in(Path(place))
    return None


def config_in(folder: Path) -> Config:
    """The config in a run or an export. ValueError if it is of neither kind."""
    path = folder / "config.yaml"
    complaints = []
    for schema in (ImageConfig, VideoConfig):
        try:
            return load_config(path, schema)
        except ValueError as error:
            complaints.append(str(error))
    raise ValueError(f"{path} is not a config of an image or a video run: {'; '.join(complaints)}")


def places_of(spec: ModelSpec) -> dict[str, str]:
    """Where each part of the model lies, except a run's own checkpoint."""
    if not spec.is_run:
        return {"base": f"{spec.base}@{spec.revision}" if spec.revision else spec.base, **dict(spec.parts)}
    config = run_config(spec)
    places = {key.removeprefix("model."): place for key, place in config.weight_paths().items() if place is not None}
    if config.model.revision and not Path(config.model.base).exists():
        places["base"] = f"{config.model.base}@{config.model.revision}"
    return places


def check_there(spec: ModelSpec) -> None:
    """Looks whether all of a model is there and reads no weights: FileNotFoundError names what is not.

    Of a part on the hub only its small files are asked for.
    """
    if spec.is_pictures:
        return
    if spec.is_run:
        find_checkpoint(Path(spec.base), spec.checkpoint)
    for part, place in places_of(spec).items():
        path = Path(place).expanduser()
        try:
            if path.is_dir():
                _files(path)
            elif not path.is_file():
                _hub_commit(place)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{part}: {error}") from error
    base = run_config(spec).model if spec.is_run else spec
    pipeline_class(base.base, base.revision)


def identity_of(spec: ModelSpec) -> dict[str, object]:
    """Weights by hash or by commit, and how they are put together; each file is read once as long as it stays the same.

    FileNotFoundError if something is missing.
    """
    if spec.is_pictures:
        folder = Path(spec.base)
        return {"kind": "pictures", "files": _folder_hash(folder, [*media_files(folder), *_tables(folder)])}
    places = places_of(spec)
    if not spec.is_run:
        return {"kind": "pipeline", "parts": {name: content_of(place) for name, place in places.items()}}
    config = run_config(spec)
    checkpoint = find_checkpoint(Path(spec.base), spec.checkpoint)
    # the content of a file counts, not its path; precision is the evaluation's own
    apart = {*places, "revision", "dtype"}
    return {
        "kind": "run",
        "model": {name: value for name, value in plain(config)["model"].items() if name not in apart},
        "tune": plain(config)["tune"],
        "policy": None if checkpoint is None else content_of(str(checkpoint / "policy.safetensors")),
        "parts": {name: content_of(place) for name, place in places.items()},
    }


def content_of(place: str) -> str:
    """Names the content of a file, a folder or a hub repository."""
    path = Path(place).expanduser()
    if path.is_file():
        return f"sha256:{remembered_sha256(path)}"
    return _folder_hash(path, _files(path)) if path.is_dir() else _hub_commit(place)


def _folder_hash(folder: Path, files: Sequence[Path]) -> str:
    hashes = remembered_hashes(files)
    lines = [f"{file.relative_to(folder).as_posix()} {found}" for file, found in zip(files, hashes, strict=True)]
    return f"sha256:{sha256(chr(10).join(lines).encode()).hexdigest()}"


def _tables(folder: Path) -> list[Path]:
    return [folder / name for name in TABLES if (folder / name).is_file()]


def _files(folder: Path) -> list[Path]:
    """The files that decide the weights in a folder; FileNotFoundError if there are none."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in HASHED and _visible(file, folder))
    if not files:
        raise FileNotFoundError(f"{folder} holds no weights (none of {', '.join(HASHED)})")
    return files


def _visible(file: Path, folder: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _hub_commit(place: str) -> str:
    """`owner/name@commit` of a hub id, from the cache if it is there, else from the hub."""
    name, _, revision = place.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FileNotFoundError(f"{place} is neither a file or folder here nor a hub id (owner/name)")
    try:
        folder = snapshot_download(name, revision=revision or None, allow_patterns=["*.json"])
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise FileNotFoundError(
            f"{place} is not a folder here and could not be had from the hub{offline}: {str(error).splitlines()[0]}"
        ) from error
    return f"hub:{name}@{Path(folder).name}"


def digest(content: object) -> str:
    """Sixteen hexadecimal digits that name a JSON value."""
    return sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
