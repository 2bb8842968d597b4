"""Turns trained weights into files that plain diffusers loads."""

from pathlib import Path

import torch

from seppo_core.adapter import Adapter
from seppo_core.files import whole_folder
from seppo_core.tuning import POLICY, lora_layers, trainable_state


def export_lora(adapter: Adapter, folder: Path) -> Path:
    """Writes the policy's LoRA for the pipeline's `load_lora_weights`, its alpha in the file's metadata.

    ValueError if the policy is not a LoRA; FileExistsError rather than overwrite.
    """
    if not lora_layers(adapter.denoiser):
        raise ValueError("the policy is full weights, not a LoRA; export it as a full pipeline")
    component = adapter.component
    # without this metadata a loader takes alpha for the rank, and the LoRA acts at another strength
    metadata = adapter.denoiser.peft_config[POLICY].to_dict()
    with whole_folder(folder) as temporary:
        adapter.pipeline.save_lora_weights(
            temporary,
            **{f"{component}_lora_layers": trainable_state(adapter.denoiser)},
            **{f"{component}_lora_adapter_metadata": metadata},
        )
    return folder


def export_full(adapter: Adapter, folder: Path, dtype: torch.dtype | None = None) -> Path:
    """Writes a whole diffusers pipeline with the policy in it, a LoRA merged into the weights.

    Merging changes the adapter's denoiser for good: export last.
    """
    merge_lora(adapter)
    pipeline = adapter.export_pipeline()
    if dtype is not None:
        pipeline.to(dtype=dtype)
    with whole_folder(folder) as temporary:
        pipeline.save_pretrained(temporary)
    return folder


def merge_lora(adapter: Adapter) -> None:
    """Adds the policy's LoRA to the weights it sits on and removes it; nothing to do for full weights."""
    if lora_layers(adapter.denoiser):
        adapter.denoiser.fuse_lora(adapter_names=[POLICY])
        adapter.denoiser.unload_lora()
