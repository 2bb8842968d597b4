"""Turns trained weights into files that plain diffusers loads."""

from pathlib import Path

import torch
from torch import nn

from seppo_core.models.adapter import Adapter
from seppo_core.models.finite import first_not_finite
from seppo_core.models.tuning import POLICY, lora_layers, merge_lora, trainable_state


def write_lora(adapter: Adapter, folder: Path) -> None:
    """Writes the policy's LoRA into `folder` as the family's pipeline loads it (see `Adapter.save_lora`).

    ValueError if the policy is not a LoRA.
    """
    if not lora_layers(adapter.denoiser):
        raise ValueError("the policy is full weights, not a LoRA; export it as a full pipeline")
    adapter.save_lora(folder, trainable_state(adapter.denoiser), adapter.denoiser.peft_config[POLICY])


def write_full(adapter: Adapter, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Writes a whole diffusers pipeline with the policy in it, a LoRA merged into the weights, into `folder`.

    Merging changes the adapter's denoiser for good: export last. `dtype` is that of all weights; None leaves each as
    it is.
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
