"""LoRA files: read and checked in diffusers' and kohya's layouts, read and written in peft's own.

Diffusers puts on what it recognises and drops the rest with a log line, so what a file holds is compared with what
stands on the model afterwards.
"""

import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from inspect import signature
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import convert_unet_state_dict_to_peft
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import load_peft_weights
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from seppo_core.io.atomic import save_tensors

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Prefix of module names in peft's files."""
_NAMED = 3


class LoraTensors(NamedTuple):
    """What a LoRA file has for a denoiser."""

    tensors: dict[str, Tensor]
    """By parameter name without the adapter's: "….to_q.lora_A.weight"."""
    alphas: dict[str, float]
    """Alpha of every layer, by module name; empty if the file's metadata or its ranks say it."""


def save_lora_folder(folder: Path, state: dict[str, Tensor], config: LoraConfig) -> None:
    """Writes a LoRA's tensors, by portable name, and its config: `PeftModel.from_pretrained(denoiser, folder)`."""
    replace(config, inference_mode=True).save_pretrained(str(folder))
    save_tensors(folder / WEIGHTS, {PREFIX + name: tensor for name, tensor in state.items()}, {"format": "pt"})


def load_lora_folder(denoiser: nn.Module, source: str, name: str) -> None:
    """Puts the LoRA of `source`, a folder or a hub id, on `denoiser` as peft's adapter `name`.

    Raises FileNotFoundError if there is none and ValueError, naming tensors, if it was made for another model.
    """
    if Path(source).is_dir() and not (Path(source) / WEIGHTS).is_file():
        raise FileNotFoundError(f"lora={source!r} has no {WEIGHTS}; give a folder as peft writes it")
    config, state = LoraConfig.from_pretrained(source), load_peft_weights(source, device="cpu")
    tensors = {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}
    _check_fit(denoiser, source, {key: (key.removeprefix(PREFIX), tensor) for key, tensor in state.items()}, PREFIX)
    inject_adapter_in_model(config, denoiser, name)
    with torch.no_grad():
        for key, parameter in _parameters(denoiser, name).items():
            # peft gives new layers the base's dtype; half precision would round what the file holds
            parameter.data = parameter.data.float()
            if key in tensors:
                parameter.copy_(tensors[key])
    _check_values(denoiser, source, tensors, name)


def load_lora_file(pipeline: DiffusionPipeline, component: str, source: str, name: str) -> None:
    """Puts the LoRA of `source`, a folder, file or hub id, on the parts of `pipeline` as peft's adapter `name`.

    The layers of the denoiser, `component`, get the strength alpha / rank (Hu et al. 2021), each its own. A file
    without alphas and metadata has alpha = rank, as diffusers takes it. Raises ValueError, naming tensors, if some of
    them belong to no layer of the denoiser or a text encoder, or if none is the denoiser's.
    """
    denoiser = pipeline.components[component]
    given = _with_alphas_in(pipeline, component, source)
    found = _read(pipeline, component, source, given)
    with warnings.catch_warnings():
        # alphas that diffusers put under names of no layer are set below
        warnings.filterwarnings("ignore", "The following alpha_pattern keys did not match", RuntimeWarning)
        try:
            pipeline.load_lora_weights(given, adapter_name=name)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:300]
            raise ValueError(
                f"lora={source!r} cannot be put on {type(denoiser).__name__} as diffusers reads it ({why}); give it in "
                "diffusers' own format"
            ) from error
    _check_values(denoiser, source, found.tensors, name)
    if found.alphas:
        _set_alphas(denoiser, found.alphas, name)


def _with_alphas_in(pipeline: DiffusionPipeline, component: str, source: str) -> str | dict[str, Tensor]:
    """`source`, or for a file on this machine with alphas that diffusers' reader would stumble over, its tensors with
    alpha / rank in the upper factors. The readers of UNets, and those that can be asked for alphas, know them."""
    files = _files(source)
    if component == "unet" or "return_alphas" in signature(pipeline.lora_state_dict).parameters or len(files) != 1:
        return source
    try:
        tensors = load_file(files[0])
    except SafetensorError:
        # which is told when it is read
        return source
    alphas = {key: tensors.pop(key) for key in list(tensors) if key.endswith(".alpha")}
    if not alphas:
        return source
    for key, alpha in alphas.items():
        layer = key.removesuffix(".alpha")
        for down, up in (("lora_A", "lora_B"), ("lora_down", "lora_up")):
            if f"{layer}.{down}.weight" in tensors and f"{layer}.{up}.weight" in tensors:
                rank = len(tensors[f"{layer}.{down}.weight"])
                # in half precision small ones would lose their last digits
                tensors[f"{layer}.{up}.weight"] = tensors[f"{layer}.{up}.weight"].float() * (alpha / rank)
                if down == "lora_down":
                    # without one, readers of kohya's names stumble
                    tensors[key] = torch.tensor(float(rank))
                break
        else:
            raise ValueError(f"lora={source!r} has {key!r} and no factors beside it; give the whole file")
    return tensors


def _read(pipeline: DiffusionPipeline, component: str, source: str, given: str | dict[str, Tensor]) -> LoraTensors:
    """The part of `given`, read from `source`, for the denoiser, checked against its layers."""
    # SDXL's kohya files number their blocks otherwise; Flux gives its alphas only if asked
    options = {"unet_config": pipeline.unet.config} if component == "unet" else {}
    try:
        # some readers empty what they are given
        copied = given if isinstance(given, str) else dict(given)
        state, *more, _ = pipeline.lora_state_dict(copied, return_lora_metadata=True, return_alphas=True, **options)
        scales = _decomposed(source)
    # diffusers says OSError of damage and of what is not there alike
    except (OSError, SafetensorError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"lora={source!r} cannot be read ({why}); if it is there, copy it again") from error
    # of converters that meet names or sizes which they do not expect
    except (KeyError, IndexError, RuntimeError, AssertionError, NotImplementedError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"lora={source!r} has names or sizes that diffusers' converter does not know ({why}); give it in "
            "diffusers' own format"
        ) from error
    if scales:
        raise ValueError(
            f"lora={source!r} is a DoRA, whose {len(scales)} scales ({_named(scales)}) diffusers leaves out; "
            "give a LoRA"
        )
    mine, denoiser = component + ".", pipeline.components[component]
    encoders = tuple(f"{part}." for part in pipeline.components if part.startswith("text_encoder"))
    entries = {key: (_peft_name(key.removeprefix(mine)), state[key]) for key in state if key.startswith(mine)}
    foreign = {key: ("", state[key]) for key in state if not key.startswith((mine, *encoders))}
    _check_fit(denoiser, source, entries | foreign, mine)
    if not entries:
        raise ValueError(
            f"lora={source!r} changes nothing of the {component}: all its {len(state)} tensors are a text encoder's "
            f"({_named(state)}); give a LoRA of the {component}"
        )
    tensors = dict(entries.values())
    alphas = {key: alpha for key, alpha in ((more and more[0]) or {}).items() if key.startswith(mine)}
    if not alphas:
        return LoraTensors(tensors, {})
    given = {_module(_peft_name(key.removeprefix(mine).removesuffix(".alpha"))): float(alphas[key]) for key in alphas}
    # a layer without an alpha has its rank's
    ranks = {_module(name): float(tensor.shape[0]) for name, tensor in tensors.items() if ".lora_A." in name}
    return LoraTensors(tensors, ranks | given)


def _decomposed(source: str) -> list[str]:
    """Names of the scales of a DoRA in files on this machine; diffusers drops them with a warning."""
    names = []
    for file in _files(source):
        with safe_open(file, framework="pt") as opened:
            names += [name for name in opened.keys() if "dora_scale" in name]
    return names


def _files(source: str) -> list[Path]:
    """The safetensors files on this machine that `source` names."""
    path = Path(source)
    if path.is_dir():
        return sorted(path.glob("*.safetensors"))
    return [path] if path.suffix == ".safetensors" and path.is_file() else []


def _peft_name(name: str) -> str:
    return next(iter(convert_unet_state_dict_to_peft({name: None})))


def _module(name: str) -> str:
    return name.split(".lora")[0]


def _check_fit(denoiser: nn.Module, source: str, entries: dict[str, tuple[str, Tensor]], prefix: str) -> None:
    """ValueError if a tensor of a file, given with the name that it has on the model, fits no layer of `denoiser`."""
    modules = dict(denoiser.named_modules())
    odd = []
    for key, (name, tensor) in entries.items():
        layer = modules.get(_module(name))
        # the factors A (rank, in, …) and B (out, rank, …) of a weight (out, in, …)
        side = 1 if ".lora_A." in name else 0
        if (
            layer is None
            or ".lora_" not in name
            or tensor.shape[side : side + 1] != layer.weight.shape[side : side + 1]
        ):
            odd.append(key)
        elif not tensor.isfinite().all():
            raise ValueError(f"lora={source!r} has values in {key!r} that are not finite; give another file")
    if odd:
        raise _unfit(denoiser, source, odd, len(entries), prefix)


def _check_values(denoiser: nn.Module, source: str, tensors: dict[str, Tensor], name: str) -> None:
    """ValueError unless the adapter `name` of `denoiser` holds `tensors` and nothing else."""
    held = _parameters(denoiser, name)
    # older diffusers name DoRA's vector without the ending that peft gives its parameter
    tensors = {key if key in held else f"{key}.weight": tensor for key, tensor in tensors.items()}
    odd = [
        key
        for key, tensor in tensors.items()
        if key not in held or not torch.equal(held[key].cpu(), tensor.to(held[key].dtype))
    ]
    if odd:
        raise _unfit(denoiser, source, odd, len(tensors), "")
    if lacking := held.keys() - tensors.keys():
        raise ValueError(
            f"lora={source!r} lacks {len(lacking)} tensors of the layers that it names ({_named(sorted(lacking))}); "
            "give the whole file"
        )


def _unfit(denoiser: nn.Module, source: str, odd: Collection[str], count: int, prefix: str) -> ValueError:
    return ValueError(
        f"lora={source!r} does not fit this base: {len(odd)} of its {count} tensors belong to no layer of "
        f"{type(denoiser).__name__} or have another size ({_named(odd)}); give a LoRA that was trained on this base, "
        f"with names such as {prefix}….to_q.lora_A.weight"
    )


def _named(keys: Collection[str]) -> str:
    return ", ".join(map(repr, list(keys)[:_NAMED])) + (", …" if len(keys) > _NAMED else "")


def _parameters(denoiser: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of the adapter `name` by the names that files have for them."""
    return {key.replace(f".{name}.", "."): p for key, p in denoiser.named_parameters() if f".{name}." in key}


def _set_alphas(denoiser: nn.Module, alphas: dict[str, float], name: str) -> None:
    """Gives each layer its own alpha, in the config too, from which exports take it.

    Diffusers writes alphas that differ by layer under names that match no layer, so that all get the commonest.
    """
    config = denoiser.peft_config[name]
    layers = {module: layer for module, layer in denoiser.named_modules() if module in alphas}
    if all(layer.lora_alpha[name] == alphas[module] for module, layer in layers.items()):
        return
    config.lora_alpha = Counter(alphas.values()).most_common()[0][0]
    config.alpha_pattern = {f"^{module}": alpha for module, alpha in alphas.items() if alpha != config.lora_alpha}
    for module, layer in layers.items():
        layer.lora_alpha[name] = alphas[module]
        rank = layer.r[name]
        layer.scaling[name] = alphas[module] / (sqrt(rank) if config.use_rslora else rank)
