"""LTX-Video in the contract."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from einops import rearrange
from torch import Tensor

from seppo_video.families.ltx import LTXModel
from tests.contract.family import T5_CALL, Family, encode_masked
from tests.contract.mistakes import MASK_DROPPED, TEXT_DROPPED, THOUSANDTHS, change, no_shift, shift_of_a_square
from tests.tiny import T5_TOKENS, T5_WIDTH, shake, t5, t5_tokenizer

FPS = 12
"""Of LTX; another than the pipeline's own 25."""


def pipeline(folder: Path, timestep_conditioning: bool = False) -> LTXPipeline:
    """An LTX-Video pipeline, 32 × 32 pixels and 8 frames per latent; `folder` is not needed."""
    pieces = t5_tokenizer()
    torch.manual_seed(34)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        timestep_conditioning=timestep_conditioning,
        scaling_factor=0.8,
    )
    shake(vae, seed=34, scale=0.02)
    generator = torch.Generator().manual_seed(34)
    vae.latents_mean.copy_(0.3 * torch.randn(8, generator=generator))
    vae.latents_std.copy_(0.5 + torch.rand(8, generator=generator))
    torch.manual_seed(35)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=T5_WIDTH,
    )
    pipeline = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=256,
            max_image_seq_len=1024, shift_terminal=0.1,
        ),
        vae=vae.eval(),
        text_encoder=t5(pieces),
        tokenizer=pieces,
        transformer=shake(transformer, seed=35).eval(),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def unpack(tokens: Tensor, latent_shape: tuple[int, ...]) -> Tensor:
    return LTXPipeline._unpack_latents(tokens, *latent_shape[1:])


def scaling(pipeline: LTXPipeline) -> tuple[Tensor, Tensor]:
    one = torch.ones(1, pipeline.vae.config.latent_channels, 1, 1, 1)
    statistics = (pipeline.vae.latents_mean, pipeline.vae.latents_std, pipeline.vae.config.scaling_factor)
    shift = pipeline._denormalize_latents(0 * one, *statistics)
    return shift, pipeline._normalize_latents(shift + one, *statistics)


def columns_first(tokens: Tensor) -> Tensor:
    return rearrange(tokens, "b (f h w) c -> b (f w h) c", f=2, h=2)


ROWS = [
    Family(
        "ltx",
        latent_shape=(8, 2, 2, 3),
        pipeline=pipeline,
        model=LTXModel(base="tiny", text_tokens=T5_TOKENS, fps=FPS),
        encode=encode_masked,
        call=T5_CALL | {"frame_rate": FPS},
        pack=LTXPipeline._pack_latents,
        unpack=unpack,
        multiple=32,
        factor=32,
        frames=9,
        whole_clips=True,
        frames_rule=r"use 8k \+ 1, e\.g\. 1(001)?$",
        scaling=scaling,
        mistakes={
            "timestep in thousandths": THOUSANDTHS,
            "text dropped": TEXT_DROPPED,
            "mask dropped": MASK_DROPPED,
            "columns before rows": change("hidden_states", columns_first),
            "rotary of columns before rows": lambda call: call | {"height": 3, "width": 2},
            "rotary in latents": lambda call: call | {"rope_interpolation_scale": None},
            "rotary of another frame rate": change("rope_interpolation_scale", lambda x: (x[0] / 2, *x[1:])),
        },
        adapter_mistakes=(no_shift, shift_of_a_square),
    )
]
