"""Exports of policies that have moved, and what the code of a model card makes of them."""

from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from seppo_core.export.snippets import FOLDER, script
from seppo_core.export.weights import write_full, write_lora
from seppo_core.io.lazy import import_object
from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import sample
from seppo_core.models.tuning import load_trainable_state, trainable_state, tune_full, tune_lora
from tests.contract.family import Family


def shaken(adapter: Adapter) -> None:
    """Far enough from the start that a part which is not loaded shows."""
    generator = torch.Generator().manual_seed(1)
    state = trainable_state(adapter.denoiser)
    load_trainable_state(
        adapter.denoiser, {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in state.items()}
    )


def trained(adapter: Adapter, kind: str, scope: str, folder: Path) -> Path:
    """A policy of another than its base's weights, exported as `kind` into `folder`."""
    adapter.denoiser.eval()
    if kind == "lora":
        tune_lora(adapter.denoiser, adapter.lora_targets[scope], rank=2, alpha=4)
    else:
        tune_full(adapter.denoiser, adapter.trainable[scope])
    shaken(adapter)
    if kind == "motion":
        adapter.motion_adapter().save_pretrained(folder)
        return folder
    (write_lora if kind == "lora" else write_full)(adapter, folder)
    return folder


def shown(adapter: Adapter, family: Family, kind: str, sources: dict[str, str], folder: Path) -> DiffusionPipeline:
    """What the card's code makes, once "FOLDER" is where the export lies."""
    names: dict = {}
    exec(script(import_object(family.model.spec.usage)(adapter, kind, sources)).replace(FOLDER, str(folder)), names)
    return names["pipe"]


def noise_of(family: Family) -> Tensor:
    return torch.randn(1, *family.latent_shape, generator=torch.Generator().manual_seed(5))


def ours(adapter: Adapter, family: Family) -> Tensor:
    return sample(
        adapter, adapter.denoiser, adapter.encode_prompts(["a red house"]), noise=noise_of(family), steps=3,
        guidance_scale=3.0, unconditional=adapter.encode_prompts([""]),
    )  # fmt: skip


def theirs(pipeline: DiffusionPipeline, family: Family) -> Tensor:
    return family.pipeline_latents(pipeline, ["a red house"], noise_of(family), steps=3, guidance_scale=3.0)
