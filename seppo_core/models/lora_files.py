"""LoRA files in peft's own layout, for families whose diffusers pipeline cannot load a LoRA."""

from dataclasses import replace
from pathlib import Path

from peft import LoraConfig, inject_adapter_in_model
from peft.utils import load_peft_weights
from torch import Tensor, nn

from seppo_core.io.atomic import save_tensors
from seppo_core.models.tuning import copy_state

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Prefix of module names in peft's files."""


def save_lora_folder(folder: Path, state: dict[str, Tensor], config: LoraConfig) -> None:
    """Writes a LoRA's tensors, by portable name, and its config: `PeftModel.from_pretrained(denoiser, folder)`."""
    replace(config, inference_mode=True).save_pretrained(str(folder))
    save_tensors(folder / WEIGHTS, {PREFIX + name: tensor for name, tensor in state.items()}, {"format": "pt"})


def load_lora_folder(denoiser: nn.Module, source: str, name: str) -> None:
    """Puts the LoRA of `source`, a folder or a hub id, on `denoiser` as peft's adapter `name`.

    Raises FileNotFoundError if there is none and ValueError, naming a tensor, if it was made for another model.
    """
    if Path(source).is_dir() and not (Path(source) / WEIGHTS).is_file():
        raise FileNotFoundError(f"lora={source!r} has no {WEIGHTS}; give a folder as peft writes it")
    inject_adapter_in_model(LoraConfig.from_pretrained(source), denoiser, name)
    parameters = {
        key.replace(f".{name}.", "."): parameter for key, parameter in denoiser.named_parameters() if f".{name}." in key
    }
    state = load_peft_weights(source, device="cpu")
    copy_state(parameters, {key.removeprefix(PREFIX): tensor for key, tensor in state.items()})
