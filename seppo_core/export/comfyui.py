"""A LoRA as ComfyUI reads it: under names of its own, with each layer's alpha as a tensor beside its factors.

Which names these are is the family's (`FamilySpec.comfyui`). ComfyUI scales a layer by alpha / rank, as peft does.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from seppo_core.io.atomic import save_tensors
from seppo_core.io.lazy import import_object
from seppo_core.models.adapter import Adapter
from seppo_core.models.tuning import POLICY

FILE = "lora_comfyui.safetensors"


class Layer(NamedTuple):
    """The factors of a layer's change, strength · up · down."""

    down: Float[Tensor, "rank inputs"]
    up: Float[Tensor, "outputs rank"]
    strength: float
    """Alpha / rank."""


def write_comfyui(adapter: Adapter, folder: Path, names: str) -> None:
    """Writes the policy's LoRA into `folder`; `names` is the family's function, as "package.module:function"."""
    tensors = import_object(names)(adapter.denoiser, policy_layers(adapter.denoiser))
    save_tensors(folder / FILE, tensors, {"format": "pt"})


def policy_layers(denoiser: nn.Module) -> dict[str, Layer]:
    """The layers of the policy's LoRA by module name; ValueError if it has none."""
    found = {
        name: Layer(
            module.lora_A[POLICY].weight.detach().cpu(),
            module.lora_B[POLICY].weight.detach().cpu(),
            module.scaling[POLICY],
        )
        for name, module in denoiser.named_modules()
        if isinstance(module, LoraLayer) and POLICY in module.lora_A
    }
    if not found:
        raise ValueError("the policy is full weights, not a LoRA; export it as a full pipeline")
    return found


def named(
    layers: Mapping[str, Layer], name: Callable[[str], str], factors: tuple[str, str] = ("lora_A", "lora_B")
) -> dict[str, Tensor]:
    """The tensors of `layers` under what `name` calls their modules; `factors` are the words for down and up."""
    tensors = {}
    for module, layer in layers.items():
        key = name(module)
        tensors[f"{key}.{factors[0]}.weight"] = layer.down
        tensors[f"{key}.{factors[1]}.weight"] = layer.up
        tensors[f"{key}.alpha"] = torch.tensor(layer.strength * len(layer.down))
    return tensors


def fused(parts: Sequence[Layer | None], outputs: Sequence[int]) -> Layer:
    """Layers on one input as one layer whose output is theirs one after the other; None changes none of its `outputs`.

    Its rank is the sum of theirs, and its strength is 1: theirs is in their columns of `up`.
    """
    given = [part for part in parts if part is not None]
    up = given[0].up.new_zeros(sum(outputs), sum(len(part.down) for part in given))
    row = column = 0
    for part, rows in zip(parts, outputs, strict=True):
        if part is not None:
            columns = len(part.down)
            up[row : row + rows, column : column + columns] = part.up * part.strength
            column += columns
        row += rows
    return Layer(torch.cat([part.down for part in given]), up, 1.0)
