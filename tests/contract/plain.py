"""How each family's own diffusers pipeline encodes, packs and scales, for the contract to compare with."""

from pathlib import Path

import torch
from diffusers import (
    DiffusionPipeline,
    FluxPipeline,
    HunyuanVideoPipeline,
    LTXPipeline,
    SanaPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    WanPipeline,
)
from einops import rearrange
from peft import PeftModel
from torch import Tensor

from seppo_core.models.adapter import Condition
from seppo_image.sana import INSTRUCTION
from tests import tiny_image, tiny_video

Encoded = tuple[Condition, Condition]
"""Conditions of some prompts, and the unconditional ones."""


def encode_one(pipeline: DiffusionPipeline, prompts: list[str]) -> Encoded:
    text, empty = pipeline.encode_prompt(prompts, "cpu", 1, True)
    return {"text": text}, {"text": empty}


def encode_sdxl(pipeline: StableDiffusionXLPipeline, prompts: list[str]) -> Encoded:
    text, empty, pooled, empty_pooled = pipeline.encode_prompt(prompts, device="cpu")
    return {"text": text, "pooled": pooled}, {"text": empty, "pooled": empty_pooled}


def encode_sd3(pipeline: StableDiffusion3Pipeline, prompts: list[str]) -> Encoded:
    text, empty, pooled, empty_pooled = pipeline.encode_prompt(
        prompts, None, None, device="cpu", max_sequence_length=tiny_image.T5_TOKENS
    )
    return {"text": text, "pooled": pooled}, {"text": empty, "pooled": empty_pooled}


def encode_flux(pipeline: FluxPipeline, prompts: list[str]) -> Encoded:
    conditions = []
    for some in (prompts, [""] * len(prompts)):
        text, pooled, _ = pipeline.encode_prompt(some, device="cpu", max_sequence_length=tiny_image.T5_TOKENS)
        conditions.append({"text": text, "pooled": pooled})
    return conditions[0], conditions[1]


def encode_sana(pipeline: SanaPipeline, prompts: list[str]) -> Encoded:
    text, mask, empty, empty_mask = pipeline.encode_prompt(
        prompts, max_sequence_length=tiny_image.T5_TOKENS, complex_human_instruction=INSTRUCTION.split("\n")
    )
    return {"text": text, "mask": mask}, {"text": empty, "mask": empty_mask}


def encode_t5(pipeline: DiffusionPipeline, prompts: list[str]) -> Encoded:
    text, empty = pipeline.encode_prompt(prompts, max_sequence_length=tiny_image.T5_TOKENS)
    return {"text": text}, {"text": empty}


def encode_masked(pipeline: DiffusionPipeline, prompts: list[str]) -> Encoded:
    text, mask, empty, empty_mask = pipeline.encode_prompt(prompts, max_sequence_length=tiny_image.T5_TOKENS)
    return {"text": text, "mask": mask}, {"text": empty, "mask": empty_mask}


def encode_hunyuan(pipeline: HunyuanVideoPipeline, prompts: list[str]) -> Encoded:
    conditions = []
    for some in (prompts, [""] * len(prompts)):
        text, pooled, mask = pipeline.encode_prompt(some, max_sequence_length=tiny_video.HUNYUAN_TOKENS)
        conditions.append({"text": text, "mask": mask, "pooled": pooled})
    return conditions[0], conditions[1]


def load_lora(pipeline: DiffusionPipeline, folder: Path) -> None:
    pipeline.load_lora_weights(folder)


def load_lora_by_peft(pipeline: DiffusionPipeline, folder: Path) -> None:
    """As diffusers documents it for pipelines without a LoRA loader."""
    pipeline.transformer = PeftModel.from_pretrained(pipeline.transformer, folder)


def flux_tokens(latents: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(latents, *latents.shape)


def flux_latents(tokens: Tensor, latent_shape: tuple[int, ...]) -> Tensor:
    return FluxPipeline._unpack_latents(tokens, latent_shape[-2] * 8, latent_shape[-1] * 8, 8)


def ltx_latents(tokens: Tensor, latent_shape: tuple[int, ...]) -> Tensor:
    return LTXPipeline._unpack_latents(tokens, *latent_shape[1:])


def frames_first(latents: Tensor, latent_shape: tuple[int, ...] = ()) -> Tensor:
    """(b, c, f, h, w) ↔ (b, f, c, h, w)"""
    return rearrange(latents, "b x y h w -> b y x h w")


def scaling_of_config(pipeline: DiffusionPipeline) -> tuple[Tensor, Tensor]:
    config = pipeline.vae.config
    return torch.tensor(config.get("shift_factor") or 0.0), torch.tensor(config.scaling_factor)


def scaling_of_wan(pipeline: WanPipeline) -> tuple[Tensor, Tensor]:
    """As the pipeline undoes it before it decodes."""
    config = pipeline.vae.config
    mean, std = (torch.tensor(x).view(1, -1, 1, 1, 1) for x in (config.latents_mean, config.latents_std))
    return mean, 1 / std


def scaling_of_ltx(pipeline: LTXPipeline) -> tuple[Tensor, Tensor]:
    one = torch.ones(1, pipeline.vae.config.latent_channels, 1, 1, 1)
    statistics = (pipeline.vae.latents_mean, pipeline.vae.latents_std, pipeline.vae.config.scaling_factor)
    shift = pipeline._denormalize_latents(0 * one, *statistics)
    return shift, pipeline._normalize_latents(shift + one, *statistics)
