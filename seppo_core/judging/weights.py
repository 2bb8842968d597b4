"""Finding and reading published weights: a file, a folder or a hub id; tensors only, nothing is unpickled."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS_VARIABLE = "SEPPO_WEIGHTS_DIR"
"""Environment variable: a folder with one folder per hub repository, `owner/name` or just `name`."""

WHOLE_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
"""Files that transformers reads, the first that exists; some repositories have open_clip's files beside them."""
BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model")
"""Its configuration and tokenizer."""


WRAPPERS = ("state_dict", "module", "model")
"""Keys under which training scripts save the weights, beside what else they save."""


@dataclass(frozen=True)
class Source:
    """One thing that a scorer reads, and who publishes it under which terms."""

    part: str
    """Its role in the scorer, which is also the argument that overrides it: weights, tokenizer, backbone."""
    hub: str | None
    """Hub repository, None if it is published elsewhere."""
    files: tuple[tuple[str, ...], ...]
    """Sets of files, any one of which is enough; the first that is there is used."""
    size: int
    """Bytes of the first set, as published or (parameters × bytes per parameter) deduced; 0 if it is not known."""
    licence: str
    address: str = ""
    """Where to get it if not from the hub."""
    whole: bool = False
    """Whether a folder with config, tokenizer and weights is needed (`locate_folder`), not one file of it."""

    @property
    def published(self) -> str:
        return self.hub or self.address

    @property
    def names(self) -> str:
        return " or ".join(" + ".join(names) for names in self.files)


def locate(source: Source, given: str | Path | None = None, download: bool = True) -> tuple[Path, ...]:
    """The files of `source`: from `given` (a file, a folder or a hub id), else $SEPPO_WEIGHTS_DIR, else the hub.

    Raises FileNotFoundError that says what is missing, its size and licence, and where it is published; with
    `download=False` nothing but this machine is asked.
    """
    if given is not None and (path := Path(given).expanduser()).exists():
        if path.is_file():
            return (path,)
        if found := _in_folder(path, source.files):
            return found
        raise FileNotFoundError(f"{path} has none of {source.names}, which {source.published} publishes")
    if given is not None and _is_path(str(given)):
        raise FileNotFoundError(f"{given} is neither a file or folder here nor a hub id (owner/name)")
    repository = source.hub if given is None else str(given)
    for folder in _offered_folders(repository or source.address):
        if found := _in_folder(folder, source.files):
            return found
    if repository is not None:
        for names in source.files:
            if found := _from_hub(repository, names, download):
                return found
    raise _missing(source, repository)


def locate_folder(source: Source, given: str | Path | None = None, download: bool = True) -> Path:
    """The folder of a whole saved model (config, tokenizer, weights in any number of files); errors as `locate`.

    From the hub, weights are taken as safetensors; only if there are none, as pytorch_model.bin.
    """
    if given is not None and (path := Path(given).expanduser()).exists():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path} has no config.json; give the folder of a saved transformers model")
        return path
    repository = str(given or source.hub)
    if given is None or not _is_path(repository):
        for folder in _offered_folders(repository):
            if (folder / "config.json").is_file():
                return folder
        name, _, revision = repository.partition("@")
        for weights in WHOLE_WEIGHTS:
            try:
                folder = Path(
                    snapshot_download(
                        name,
                        revision=revision or None,
                        allow_patterns=[*BESIDE_WEIGHTS, weights],
                        local_files_only=not download,
                    )
                )
            except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError):
                break
            if any(folder.glob(weights)):
                return folder
    raise _missing(source, repository)


def files_of(folder: Path) -> list[Path]:
    """The files that `locate_folder` found: weights, configuration and tokenizer."""
    weights = next((found for pattern in WHOLE_WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    return sorted(path for pattern in BESIDE_WEIGHTS for path in folder.glob(pattern)) + weights


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, or in a .pt/.pth/.bin that holds nothing but tensors.

    Raises ValueError if the file is damaged or holds other objects: those would have to be unpickled, which runs
    whatever code the file brings.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file ({error}); download it again") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} holds more than tensors, or is damaged, and is not unpickled ({reason}); "
            "convert its state dict to safetensors or download it again"
        ) from error
    if isinstance(content, dict):
        content = next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds a {type(content).__name__} and no state dict of tensors")
    return dict(content)


def fill(model: nn.Module, state: dict[str, Tensor], source: str, dtype: torch.dtype) -> nn.Module:
    """Gives a `model` that was built on the meta device its weights; every name and shape has to fit.

    Raises ValueError that names the first keys that are missing, unknown or of another shape.
    """
    # old versions of transformers wrote this counter into checkpoints
    state = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    complaints = [
        f"{len(keys)} {what}: {', '.join(sorted(keys)[:3])}"
        for what, keys in (
            ("missing", expected.keys() - state.keys()),
            ("unknown", state.keys() - expected.keys()),
            (
                "of another shape",
                {key for key in expected.keys() & state.keys() if tuple(state[key].shape) != expected[key]},
            ),
        )
        if keys
    ]
    if complaints:
        raise ValueError(f"{source} does not fit {type(model).__name__}; keys " + "; ".join(complaints))
    model.load_state_dict({key: value.to(dtype) for key, value in state.items()}, strict=True, assign=True)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta and name == "position_ids":
                module.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)
    return model


def _missing(source: Source, repository: str | None) -> FileNotFoundError:
    place = repository or source.address
    size = f"{source.size / 1e9:.2f} GB, " if source.size else ""
    return FileNotFoundError(
        f"{source.part} not found: {source.names} of {place} ({size}{source.licence}). "
        f"Download it and give {source.part}=FILE_OR_FOLDER, or put it into ${WEIGHTS_VARIABLE}/{place}"
    )


def _is_path(given: str) -> bool:
    return Path(given).is_absolute() or given.startswith((".", "~")) or given.count("/") != 1


def _in_folder(folder: Path, alternatives: tuple[tuple[str, ...], ...]) -> tuple[Path, ...]:
    for names in alternatives:
        if all((folder / name).is_file() for name in names):
            return tuple(folder / name for name in names)
    return ()


def _offered_folders(repository: str) -> list[Path]:
    offered = os.environ.get(WEIGHTS_VARIABLE)
    if not offered:
        return []
    return [Path(offered).expanduser() / repository, Path(offered).expanduser() / repository.split("/")[-1]]


def _from_hub(repository: str, names: tuple[str, ...], download: bool) -> tuple[Path, ...]:
    name, _, revision = repository.partition("@")
    try:
        if download:
            return tuple(Path(hf_hub_download(name, file, revision=revision or None)) for file in names)
        found = [try_to_load_from_cache(name, file, revision=revision or None) for file in names]
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError):
        return ()
    return tuple(Path(path) for path in found) if all(isinstance(path, str) for path in found) else ()
