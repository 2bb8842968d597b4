"""Finding a diffusers pipeline in a folder or on the hub, and saying clearly why one cannot be used."""

from pathlib import Path

import diffusers
from diffusers import DiffusionPipeline
from packaging.version import Version

# a folder that names PixelShuffleVAE loads only once the class's module is imported
import seppo_core.pixels  # noqa: F401

DTYPE = "dtype" if Version(diffusers.__version__) >= Version("0.42") else "torch_dtype"
"""What diffusers' `from_pretrained` calls its dtype argument."""


def pipeline_class(base: str, revision: str | None = None) -> str:
    """Name of the diffusers pipeline class that `base`, a folder or a hub id, was saved from; reads no weights.

    Raises FileNotFoundError where neither exists and ValueError for a single file.
    """
    path = Path(base).expanduser()
    if path.is_file():
        raise ValueError(f"base={base!r} is a file; give a diffusers folder (one with model_index.json) or a hub id")
    if path.is_dir() and not (path / "model_index.json").is_file():
        raise FileNotFoundError(f"base={base!r} has no model_index.json; give the folder of a saved diffusers pipeline")
    if not path.exists() and (path.is_absolute() or base.startswith((".", "~")) or base.count("/") != 1):
        raise FileNotFoundError(f"base={base!r} is no folder here, and no hub id (owner/name) either")
    try:
        config = DiffusionPipeline.load_config(str(path) if path.is_dir() else base, revision=revision)
    except OSError as error:
        raise FileNotFoundError(
            f"base={base!r} is no folder here and could not be had from the hub: {str(error).splitlines()[0]}"
        ) from error
    return config["_class_name"]


def component_source(name: str, what: str) -> str:
    """`name` as diffusers wants it; FileNotFoundError where it is meant as a folder and is not there."""
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"{what}={name!r} is no folder here, and no hub id (owner/name) either")
    return name
