"""Flux.1 in the contract: dev and schnell."""

from functools import partial
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from einops import rearrange
from torch import Tensor

from seppo_image.families.flux import FluxModel
from tests.contract.family import T5_CALL, Encoded, Family
from tests.contract.mistakes import POOLED_DROPPED, change, guided_as_in_training, no_shift, shift_of_a_square
from tests.tiny import T5_TOKENS, T5_WIDTH, TEXT_WIDTH, shake, shifted_vae, t5, t5_tokenizer, text_encoder, tokenizer


def pipeline(folder: Path, dev: bool = True) -> FluxPipeline:
    """A Flux pipeline: `dev` with embedded guidance and a shift by size, or schnell with neither."""
    words = tokenizer(folder)
    torch.manual_seed(18)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=dev,
        axes_dims_rope=(4, 4, 8),
    )
    pieces = t5_tokenizer()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev)
    pipeline = FluxPipeline(
        transformer=shake(transformer, seed=18).eval(),
        scheduler=scheduler,
        vae=shifted_vae(),
        text_encoder=text_encoder(words),
        tokenizer=words,
        text_encoder_2=t5(pieces),
        tokenizer_2=pieces,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encode(pipeline: FluxPipeline, prompts: list[str]) -> Encoded:
    conditions = []
    for some in (prompts, [""] * len(prompts)):
        text, pooled, _ = pipeline.encode_prompt(some, device="cpu", max_sequence_length=T5_TOKENS)
        conditions.append({"text": text, "pooled": pooled})
    return conditions[0], conditions[1]


def pack(latents: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(latents, *latents.shape)


def unpack(tokens: Tensor, latent_shape: tuple[int, ...]) -> Tensor:
    return FluxPipeline._unpack_latents(tokens, latent_shape[-2] * 8, latent_shape[-1] * 8, 8)


def patches_first(tokens: Tensor) -> Tensor:
    return rearrange(tokens, "b n (c p) -> b n (p c)", p=4)


FLUX = {
    "latent_shape": (4, 8, 12),
    # 1000 times the guidance is embedded: 4000 is the same in bfloat16, 3500 is not
    "model": FluxModel(base="tiny", text_tokens=T5_TOKENS, training_guidance=4.0),
    "encode": encode,
    "call": T5_CALL,
    "pack": pack,
    "unpack": unpack,
    "multiple": 16,
}
NOT_THOUSANDTHS = {"timestep not in thousandths": change("timestep", lambda t: t * 1000)}
ROWS = [
    Family(
        "flux-dev",
        pipeline=pipeline,
        mistakes=NOT_THOUSANDTHS
        | {
            "patches before channels": change("hidden_states", patches_first),
            "rows and columns swapped": change("img_ids", lambda ids: ids[:, [0, 2, 1]]),
            "text where the first patch is": change("txt_ids", lambda ids: ids + 1),
            "guidance off": change("guidance", torch.ones_like),
            "guidance in thousandths": change("guidance", lambda guidance: guidance / 1000),
        },
        adapter_mistakes=(no_shift, shift_of_a_square, guided_as_in_training),
        **FLUX,
    ),
    Family(
        "flux-schnell",
        pipeline=partial(pipeline, dev=False),
        mistakes=NOT_THOUSANDTHS | {"pooled text dropped": POOLED_DROPPED},
        **FLUX,
    ),
]
