"""Finding a diffusers pipeline in a folder or on the hub, and saying clearly why one cannot be used."""

import warnings
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import MappingProxyType

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from torch import nn

from seppo_core.config.base_files import (
    INDEX,
    is_cached,
    is_offline,
    model_problems,
    not_cached,
    part_variant,
    parts_of,
    read_index,
)
from seppo_core.config.messages import first_line
from seppo_core.config.model import ModelConfig
from seppo_core.config.single_file import layout_of, read_header
from seppo_core.models.components import DAMAGE, load_component
from seppo_core.models.single_file import load_single_file, load_unet
from seppo_core.models.tokenizers import match_tokenizers
from seppo_core.models.vae import cast


def pipeline_class(base: str, revision: str | None = None) -> str:
    """Name of the diffusers pipeline class that `base`, a folder or a hub id, was saved from; reads no weights.

    Of a single file it is the one that its tensors' names show. Raises FileNotFoundError if neither exists and
    ValueError for a file that is no base.
    """
    path = Path(base).expanduser()
    if path.is_file():
        return layout_of(path, read_header(path)).pipeline
    if path.is_dir():
        return read_index(path)["_class_name"]
    if path.is_absolute() or base.startswith((".", "~")) or base.count("/") != 1:
        raise FileNotFoundError(f"base={base!r} is neither a folder here nor a hub id (owner/name)")
    if not is_offline() and not is_cached(base):
        _ask_hub(base, revision)
    try:
        with warnings.catch_warnings():
            # diffusers passes an argument that the hub's client no longer knows
            warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument", UserWarning)
            config = DiffusionPipeline.load_config(base, revision=revision)
    except OSError as error:
        if is_offline():
            told = "HF_HUB_OFFLINE is set"
        elif isinstance(error.__context__, LocalEntryNotFoundError):
            # of which diffusers says that the model lacks a file
            told = "the hub cannot be reached"
        else:
            told = f"the hub does not have it: {str(error).splitlines()[0]}"
        raise FileNotFoundError(not_cached("base", base, told)) from error
    return config["_class_name"]


def _ask_hub(base: str, revision: str | None) -> None:
    """FileNotFoundError if the hub does not answer, which diffusers would find out in half a minute of retries."""
    try:
        get_hf_file_metadata(hf_hub_url(base, INDEX, revision=revision))
    except (HfHubHTTPError, ValueError):
        # it answers, or the id is none: diffusers' error tells more
        return
    except Exception as error:
        # of whichever client the library speaks through
        raise FileNotFoundError(not_cached("base", base, "the hub cannot be reached")) from error


def component_source(name: str, what: str) -> str:
    """Returns `name` as diffusers expects it; raises FileNotFoundError if it names a folder that does not exist."""
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise FileNotFoundError(f"{what}={name!r} is neither a folder here nor a hub id (owner/name)")
    return name


def base_kind(model: ModelConfig) -> str:
    """Name of the pipeline class of `model.base` (see `pipeline_class`); ValueError if it does not fit the config."""
    found = pipeline_class(model.base, model.revision)
    _refuse(model, model.pipeline_problems(found))
    return found


def load_pipeline(
    model: ModelConfig, dtype: torch.dtype, components: Mapping[str, nn.Module | None] = MappingProxyType({})
) -> DiffusionPipeline:
    """The pipeline of `model` from a folder or the hub; its `vae` and `components` take the place of the base's own.

    Only safetensors are read, and no code of the base's folder is run.

    `dtype` is that of all but a VAE whose config asks for float32 (`force_upcast`). Raises FileNotFoundError if nothing
    is found, and ValueError if what is found belongs to another family, lacks files, tensors or a vocabulary.
    """
    base_kind(model)
    kind = getattr(diffusers, model.spec.pipeline)
    given = model.load_options() | dict(components)
    if model.vae is not None:
        given["vae"] = load_model(getattr(diffusers, model.spec.autoencoder), model.vae, "vae", torch.float32)
    folder = base_folder(model)
    pipeline = _of_folder(model, kind, folder, dtype, given) if folder.is_dir() else _of_file(model, kind, dtype, given)
    match_tokenizers(pipeline, model.base)
    if not wants_float32(pipeline):
        cast(pipeline.vae, dtype)
    return pipeline


def _of_folder(
    model: ModelConfig, kind: type[DiffusionPipeline], folder: Path, dtype: torch.dtype, given: dict
) -> DiffusionPipeline:
    index = read_index(folder)
    needed, _ = kind._get_signature_keys(kind)
    absent = set(needed) - set(kind._optional_components) - parts_of(index).keys() - given.keys()
    if absent:
        raise ValueError(
            f"base={model.base!r} was saved without its {' and '.join(sorted(absent))}, which a {model.spec.pipeline} "
            "needs; use a whole base"
        )
    for name, (library, class_name) in parts_of(index, given).items():
        part = _class_of(library, class_name, f"the {name} of base={model.base!r}")
        if issubclass(part, nn.Module):
            # the VAE comes in float32 and steps down below if it may, so that no digits are lost on the way
            precision = torch.float32 if name == "vae" else dtype
            given[name] = load_part(model, folder, part, name, precision)
    try:
        return kind.from_pretrained(str(folder), **given)
    except DAMAGE as error:
        # the models are there: what is left are tokenizers and the scheduler
        raise ValueError(
            f"a tokenizer or the scheduler of base={model.base!r} cannot be loaded ({type(error).__name__}: "
            f"{first_line(error, 300)}); its files are damaged, or of another version: load the base anew, or upgrade "
            "transformers"
        ) from error


def _of_file(model: ModelConfig, kind: type[DiffusionPipeline], dtype: torch.dtype, given: dict) -> DiffusionPipeline:
    found = load_single_file(model, dtype, given)
    if isinstance(found, kind):
        return found
    # an image model that becomes one with motion
    taken = signature(kind).parameters
    parts = {name: part for name, part in (dict(found.config) | found.components | given).items() if name in taken}
    return kind(**parts)


def base_folder(model: ModelConfig) -> Path:
    """The folder or file of the base, downloaded if it is a hub id, but for the components that are not used.

    Raises ValueError, with every fault that its files show.
    """
    path = Path(model.base).expanduser()
    if not path.is_file() and not (path := Path(component_source(model.base, "base"))).is_dir():
        kind = getattr(diffusers, model.spec.pipeline)
        options = {"revision": model.revision, "variant": model.variant, "use_safetensors": True}
        path = Path(kind.download(model.base, **options, **dict.fromkeys(model.replaced())))
    _refuse(model, model.base_problems(path))
    return path


def load_part(model: ModelConfig, folder: Path, kind: type[nn.Module], name: str, dtype: torch.dtype) -> nn.Module:
    """The component `name` of the base in `folder`, or the UNet of one in a file (see `load_component`)."""
    if folder.is_file():
        return load_unet(model, kind, dtype)
    part = folder / name
    variant = part_variant(part, model.variant)
    return load_component(kind, str(part), f"the {name} of base={model.base!r}", dtype, variant=variant)


def load_model(kind: type[nn.Module], name: str, what: str, dtype: torch.dtype) -> nn.Module:
    """A single model from a folder or the hub, such as another VAE (see `load_component`); `what` is its config key."""
    source = component_source(name, what)
    if Path(source).is_dir() and (problems := model_problems(Path(source))):
        raise ValueError(f"{what}={name!r} cannot be used: {'; '.join(problems)}")
    return load_component(kind, source, f"{what}={name!r}", dtype)


def _refuse(model: ModelConfig, problems: list[str]) -> None:
    if problems:
        raise ValueError(f"base={model.base!r} cannot be used: {'; '.join(problems)}")


def _class_of(library: str, name: str, what: str) -> type:
    """The class of a component that a pipeline's index names. ValueError for what no package here has."""
    try:
        return _found_class(library, name, what)
    except (AttributeError, ImportError) as error:
        raise ValueError(
            f"{what} is a {library}.{name}, which is not known here; its model_index.json is damaged, or of another "
            "version: load the base anew, or upgrade diffusers and transformers"
        ) from error


def _found_class(library: str, name: str, what: str) -> type:
    if library in ("diffusers", "transformers"):
        return getattr({"diffusers": diffusers, "transformers": transformers}[library], name)
    if library.partition(".")[0] == __name__.partition(".")[0]:
        return getattr(import_module(library), name)
    # some pipelines bring a component's class with them
    module = getattr(diffusers.pipelines, library, None)
    if module is None:
        raise ValueError(f"{what} is a {library}.{name}, code of its own that is never run; use another base")
    return getattr(module, name)


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
