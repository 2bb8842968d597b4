"""Turns trained weights into files that plain diffusers loads."""

import shutil
from pathlib import Path

import torch
from torch import nn

from seppo_core.config.model import ModelConfig
from seppo_core.models.adapter import Adapter
from seppo_core.models.base_files import files_of, part_files
from seppo_core.models.finite import first_not_finite
from seppo_core.models.tuning import POLICY, lora_layers, merge_lora, trainable_state


def write_lora(adapter: Adapter, folder: Path) -> None:
    """Writes the policy's LoRA into `folder` as the family's pipeline loads it (see `Adapter.save_lora`).

    ValueError if the policy is not a LoRA.
    """
    if not lora_layers(adapter.denoiser):
        raise ValueError("the policy is full weights, not a LoRA; export it as a full pipeline")
    adapter.save_lora(folder, trainable_state(adapter.denoiser), adapter.denoiser.peft_config[POLICY])


def write_full(
    adapter: Adapter, folder: Path, dtype: torch.dtype | None = None, model: ModelConfig | None = None
) -> None:
    """Writes a whole diffusers pipeline with the policy in it, a LoRA merged into the weights, into `folder`.

    Merging changes the adapter's denoiser for good: export last. `dtype` is that of all weights; None leaves each as
    it is. `model` says what was loaded: its tokenizers' files are then in the export as they were, so that captions
    which were encoded for the base are known to fit.
    """
    merge_lora(adapter.denoiser)
    pipeline = adapter.export_pipeline()
    if dtype is not None:
        pipeline.to(dtype=dtype)
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module) and (key := first_not_finite(part.state_dict())) is not None:
            raise ValueError(
                f"{key!r} of the {name} is not finite in {dtype or 'its precision'}; export with --dtype bfloat16 or "
                "float32"
            )
    pipeline.save_pretrained(folder)
    for name, part in pipeline.components.items() if model is not None else ():
        if name.startswith("tokenizer") and part is not None:
            _keep_files(folder / name, part_files(model, name))


def _keep_files(folder: Path, files: list[Path]) -> None:
    """Puts the tokenizer's own files in the place of those that were written: a tokenizer that has been used writes its
    last padding and truncation too."""
    # of a base in a single file they are not known
    if not files or any(file.suffix not in (".json", ".txt", ".model") for file in files):
        return
    for written in files_of(folder):
        written.unlink()
    for file in files:
        shutil.copyfile(file, folder / file.name)
