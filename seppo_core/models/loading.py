"""Finding a diffusers pipeline in a folder or on the hub, and saying clearly why one cannot be used."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import diffusers
import torch
from diffusers import DiffusionPipeline
from packaging.version import Version
from torch import nn

# a folder that names PixelShuffleVAE loads only once the class's module is imported
import seppo_core.models.pixel_shuffle_vae  # noqa: F401
from seppo_core.config.model import ModelConfig
from seppo_core.models.vae import cast

DTYPE = "dtype" if Version(diffusers.__version__) >= Version("0.42") else "torch_dtype"
"""Name of the dtype argument of diffusers' `from_pretrained`."""


def pipeline_class(base: str, revision: str | None = None) -> str:
    """Name of the diffusers pipeline class that `base`, a folder or a hub id, was saved from; reads no weights.

    Raises FileNotFoundError if neither exists and ValueError for a single file.
    """
    path = Path(base).expanduser()
    if path.is_file():
        raise ValueError(f"base={base!r} is a file; give a diffusers folder (one with model_index.json) or a hub id")
    if path.is_dir() and not (path / "model_index.json").is_file():
        raise FileNotFoundError(f"base={base!r} has no model_index.json; give the folder of a saved diffusers pipeline")
    if not path.exists() and (path.is_absolute() or base.startswith((".", "~")) or base.count("/") != 1):
        raise FileNotFoundError(f"base={base!r} is neither a folder here nor a hub id (owner/name)")
    try:
        config = DiffusionPipeline.load_config(str(path) if path.is_dir() else base, revision=revision)
    except OSError as error:
        raise FileNotFoundError(
            f"base={base!r} is not a folder here and could not be loaded from the hub: {str(error).splitlines()[0]}"
        ) from error
    return config["_class_name"]


def component_source(name: str, what: str) -> str:
    """Returns `name` as diffusers expects it; raises FileNotFoundError if it names a folder that does not exist."""
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"{what}={name!r} is neither a folder here nor a hub id (owner/name)")
    return name


def base_kind(model: ModelConfig) -> str:
    """Name of the pipeline class of `model.base` (see `pipeline_class`); ValueError if it belongs to another family."""
    spec, found = model.spec, pipeline_class(model.base, model.revision)
    if found not in (spec.pipeline, spec.image_pipeline):
        raise ValueError(f"base={model.base!r} is a {found}; this family needs a {spec.pipeline}")
    return found


def load_pipeline(
    model: ModelConfig, dtype: torch.dtype, components: Mapping[str, nn.Module | None] = MappingProxyType({})
) -> DiffusionPipeline:
    """The pipeline of `model` from a folder or the hub; its `vae` and `components` take the place of the base's own.

    Only safetensors are read.

    `dtype` is that of all but a VAE whose config asks for float32 (`force_upcast`). Raises FileNotFoundError if nothing
    is found, and ValueError if what is found belongs to another family.
    """
    base_kind(model)
    spec = model.spec
    components = model.load_options() | dict(components)
    if model.vae is not None:
        components["vae"] = getattr(diffusers, spec.autoencoder).from_pretrained(
            component_source(model.vae, "vae"), use_safetensors=True, **{DTYPE: torch.float32}
        )
    pipeline = getattr(diffusers, spec.pipeline).from_pretrained(
        component_source(model.base, "base"),
        revision=model.revision,
        variant=model.variant,
        use_safetensors=True,
        **components,
        # the VAE comes in float32 and steps down below if it may, so that no digits are lost on the way
        **{DTYPE: {"vae": torch.float32, "default": dtype}},
    )
    if not wants_float32(pipeline):
        cast(pipeline.vae, dtype)
    return pipeline


def freeze(pipeline: DiffusionPipeline, denoiser: nn.Module) -> None:
    """Puts all modules but the denoiser out of training's reach, and a VAE that asks for it into float32."""
    for module in pipeline.components.values():
        if isinstance(module, nn.Module) and module is not denoiser:
            module.requires_grad_(False).eval()
    if wants_float32(pipeline):
        cast(pipeline.vae, torch.float32)


def wants_float32(pipeline: DiffusionPipeline) -> bool:
    """Whether the VAE stays in float32 whatever precision the rest is loaded in."""
    # those that do not say overflow, or lose digits that show, in half precision
    return pipeline.vae.config.get("force_upcast", True)
