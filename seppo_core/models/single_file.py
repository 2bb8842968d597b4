"""Loads a base that is one `.safetensors` file, in the layout of the first release, without network.

diffusers translates the names of its tensors. The numbers of the architecture come with this program or from
`model.single_file_config`; vocabularies, which no such file holds, come from there, and so do models that it lacks.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import contextmanager
from inspect import signature
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from torch import nn

from seppo_core.config.base_files import CONFIG, INDEX, parts_of, read_json
from seppo_core.config.messages import first_line
from seppo_core.config.model import ModelConfig
from seppo_core.config.single_file import (
    Header,
    Layout,
    begins,
    index_of,
    layout_of,
    numbers_of,
    read_header,
    taken_from_folder,
)
from seppo_core.models.components import DAMAGE, load_component

_WHOLE = "nothing is trained on weights that are not the base's: download it again"
_NAMES = {"scheduler": "scheduler_config.json"}


def load_single_file(
    model: ModelConfig, dtype: torch.dtype, given: Mapping[str, nn.Module | None]
) -> DiffusionPipeline:
    """The pipeline of the base in the file `model.base`, the components of `given` in place of its own.

    `dtype` is that of all but the VAE, which is float32. ValueError if the file or what stands beside it is no whole
    base (`ModelConfig.base_problems` says more before).
    """
    file = Path(model.base).expanduser()
    header = read_header(file)
    layout = layout_of(file, header)
    kind = getattr(diffusers, layout.pipeline)
    beside = Path(model.single_file_config).expanduser()
    given = {name: part for name, part in given.items() if name in signature(kind).parameters}
    replaced = set(given)
    with TemporaryDirectory() as room:
        index = _write_configs(Path(room), layout, header, model)
        elsewhere = taken_from_folder(layout, header, index, given)
        for name, (library, class_name) in parts_of(index, given).items():
            part = getattr({"diffusers": diffusers, "transformers": transformers}[library], class_name)
            what = f"the {name} of base={model.base!r}"
            precision = torch.float32 if name == "vae" else dtype
            if not issubclass(part, nn.Module):
                continue
            if name in elsewhere:
                what = f"the {name} of single_file_config={model.single_file_config!r}"
                given[name] = load_component(part, str(beside / name), what, precision)
            elif issubclass(part, diffusers.ModelMixin):
                with _explained(what):
                    given[name] = part.from_single_file(
                        str(file), config=room, subfolder=name, local_files_only=True, dtype=precision
                    )
        with _explained(f"base={model.base!r}"):
            pipeline = kind.from_single_file(str(file), config=room, local_files_only=True, dtype=dtype, **given)
    for name, module in pipeline.components.items():
        if isinstance(module, nn.Module):
            _check_filled(name, module, model.base)
        if name in ("unet", "transformer") and name not in replaced:
            _check_denoiser(module, layout, header, model.base)
    return pipeline


def load_unet(model: ModelConfig, kind: type[nn.Module], dtype: torch.dtype) -> nn.Module:
    """The UNet alone of the base in the file `model.base`."""
    file = Path(model.base).expanduser()
    header = read_header(file)
    layout = layout_of(file, header)
    with TemporaryDirectory() as room:
        _write_configs(Path(room), layout, header, model)
        with _explained(f"the unet of base={model.base!r}"):
            unet = kind.from_single_file(str(file), config=room, subfolder="unet", local_files_only=True, dtype=dtype)
    _check_filled("unet", unet, model.base)
    _check_denoiser(unet, layout, header, model.base)
    return unet


def _write_configs(room: Path, layout: Layout, header: Header, model: ModelConfig) -> dict[str, Any]:
    """Fills `room` with the configs of a pipeline and its vocabularies; returns its index."""
    beside = Path(model.single_file_config).expanduser()
    known = read_json(model.bases / f"{numbers_of(layout, header)}.json")
    index = index_of(layout, header, beside, model.bases)
    (room / INDEX).write_text(json.dumps(index), encoding="utf-8")
    for name, (_, kind) in parts_of(index).items():
        (room / name).mkdir()
        if "Tokenizer" in kind:
            shutil.copytree(beside / name, room / name, dirs_exist_ok=True)
            continue
        file = _NAMES.get(name, CONFIG)
        there = beside / name / file
        config = read_json(there) if there.is_file() else known.get(name)
        if config is not None:
            (room / name / file).write_text(json.dumps(config), encoding="utf-8")
    return index


def _check_denoiser(module: nn.Module, layout: Layout, header: Header, base: str) -> None:
    """ValueError unless the denoiser took all that the file holds of it: diffusers leaves out what has no place."""
    prefix = next(one for one in layout.denoiser if any(begins(key, (one,)) for key in header))
    others = tuple(one for prefixes in layout.prefixes.values() for one in prefixes)
    held = sum(prod(shape) for key, shape in header.items() if key.startswith(prefix) and not begins(key, others))
    taken = sum(parameter.numel() for parameter in module.parameters())
    if held != taken:
        raise ValueError(
            f"base={base!r} holds {held} numbers for its denoiser, whose config has {taken}: it is of another "
            "architecture; name a folder with its configs as model.single_file_config"
        )


def _check_filled(name: str, module: nn.Module, base: str) -> None:
    # what the file did not give has been left without memory
    empty = [key for key, parameter in module.named_parameters() if parameter.is_meta]
    if empty:
        raise ValueError(f"the {name} of base={base!r} lacks {len(empty)} tensors ({', '.join(empty[:3])}); {_WHOLE}")


@contextmanager
def _explained(what: str):
    """Turns what diffusers says of a file that it cannot translate into a ValueError of one line."""
    try:
        yield
    except NotImplementedError as error:
        # what the file did not give was left without memory, and such tensors cannot be moved
        raise ValueError(f"{what} lacks tensors that its config asks for; {_WHOLE}") from error
    except (*DAMAGE, RuntimeError, OSError) as error:
        raise ValueError(
            f"{what} does not fit its config ({type(error).__name__}: {first_line(error, 300)}); name a folder with "
            "its configs as model.single_file_config, or convert it to a diffusers folder"
        ) from error
