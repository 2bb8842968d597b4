"""Wan 2.1 in the contract, on either of its solvers."""

from functools import partial
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from einops import rearrange
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from seppo_video.families.wan import WanModel
from tests.contract.family import T5_CALL, Family, encode_t5
from tests.contract.mistakes import TEXT_DROPPED, THOUSANDTHS, change
from tests.tiny import T5_TOKENS, T5_WIDTH, shake, t5_tokenizer


def pipeline(folder: Path, unipc: bool = True) -> WanPipeline:
    """A Wan 2.1 pipeline on UniPC with the flow shift of 480p, or on FlowMatch; `folder` is not needed."""
    pieces = t5_tokenizer()
    torch.manual_seed(31)
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(pieces), d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    torch.manual_seed(32)
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[-0.3, 0.1, 0.2, 0.0],
        latents_std=[0.8, 1.2, 0.5, 1.0],
    )
    torch.manual_seed(33)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=T5_WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=32,
    )
    if unipc:
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pipeline = WanPipeline(
        tokenizer=pieces,
        text_encoder=shake(text_encoder, seed=31).eval(),
        vae=shake(vae, seed=32, scale=0.02).eval(),
        scheduler=scheduler,
        transformer=shake(transformer, seed=33).eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def scaling(pipeline: WanPipeline) -> tuple[Tensor, Tensor]:
    """As the pipeline undoes it before it decodes."""
    config = pipeline.vae.config
    mean, std = (torch.tensor(x).view(1, -1, 1, 1, 1) for x in (config.latents_mean, config.latents_std))
    return mean, 1 / std


def frames_for_rows(latents: Tensor) -> Tensor:
    """The right shape, filled in another order."""
    return rearrange(latents, "b c f h w -> b c h f w").reshape(latents.shape)


WAN = {
    "latent_shape": (4, 2, 4, 6),
    "model": WanModel(base="tiny", text_tokens=T5_TOKENS),
    "encode": encode_t5,
    "call": T5_CALL,
    "multiple": 16,
    "frames": 5,
    "whole_clips": True,
    "frames_rule": r"use 4k \+ 1, e\.g\. 1(001)?$",
    "scaling": scaling,
}
ROWS = [
    Family(
        "wan",
        pipeline=pipeline,
        mistakes={
            "timestep in thousandths": THOUSANDTHS,
            "text dropped": TEXT_DROPPED,
            "rows and frames swapped": change("hidden_states", frames_for_rows),
        },
        **WAN,
    ),
    Family("wan-flow-match", pipeline=partial(pipeline, unipc=False), **WAN),
]
