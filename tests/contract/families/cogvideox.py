"""CogVideoX in the contract: 2b, 5b and 1.5."""

from functools import partial
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from einops import rearrange
from torch import Tensor

from seppo_video.families.cogvideox import CogVideoXModel
from tests.contract.family import T5_CALL, Family, encode_t5
from tests.contract.mistakes import TEXT_DROPPED, THOUSANDTHS, change
from tests.tiny import T5_TOKENS, T5_WIDTH, shake, t5, t5_tokenizer


def pipeline(folder: Path, rotary: bool = True, packed_frames: int | None = None) -> CogVideoXPipeline:
    """A CogVideoX pipeline: 5b, 2b (not `rotary`) or 1.5 (two `packed_frames`); `folder` is not needed."""
    pieces = t5_tokenizer()
    torch.manual_seed(36)
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        sample_height=64,
        sample_width=96,
        scaling_factor=0.7 if rotary else 1.15258426,
    )
    torch.manual_seed(37)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=T5_WIDTH,
        num_layers=1,
        # trained on another size than the tests', so that positions are stretched or cut out
        sample_height=8,
        sample_width=16,
        sample_frames=9,
        patch_size_t=packed_frames,
        patch_bias=packed_frames is None,
        max_text_seq_length=T5_TOKENS,
        use_rotary_positional_embeddings=rotary,
    )
    pipeline = CogVideoXPipeline(
        tokenizer=pieces,
        text_encoder=t5(pieces),
        vae=shake(vae, seed=36, scale=0.02).eval(),
        transformer=shake(transformer, seed=37).eval(),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
            snr_shift_scale=1.0 if rotary else 3.0,
        ),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def frames_first(latents: Tensor, latent_shape: tuple[int, ...] = ()) -> Tensor:
    """(b, c, f, h, w) ↔ (b, f, c, h, w)"""
    return rearrange(latents, "b x y h w -> b y x h w")


def frames_apart(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Positions of one frame for all."""
    return tuple(rearrange(x[: len(x) // 2].expand(2, -1, -1), "f n d -> (f n) d") for x in pair)


COGVIDEOX = {
    "model": CogVideoXModel(base="tiny"),
    "encode": encode_t5,
    "call": T5_CALL,
    "pack": frames_first,
    "unpack": frames_first,
    "multiple": 16,
    "frames": 9,
    "whole_clips": True,
    "frames_rule": r"use 8k \+ 1, e\.g\. 1(001)?$",
}
NO_ROTARY = {"rotary missing": lambda call: call | {"image_rotary_emb": None}}
ROWS = [
    Family(
        "cogvideox-1.5",
        latent_shape=(4, 4, 4, 6),
        pipeline=partial(pipeline, packed_frames=2),
        repeated=1,
        mistakes=NO_ROTARY
        | {
            "channels for frames": change("hidden_states", lambda x: x.transpose(1, 2)),
            "rotary of one frame for all": change("image_rotary_emb", frames_apart),
        },
        **COGVIDEOX,
    ),
    Family(
        "cogvideox-2b",
        latent_shape=(4, 3, 4, 6),
        pipeline=partial(pipeline, rotary=False),
        mistakes={"timestep in thousandths": THOUSANDTHS, "text dropped": TEXT_DROPPED},
        **COGVIDEOX,
    ),
    Family(
        "cogvideox-5b",
        latent_shape=(4, 3, 4, 6),
        pipeline=pipeline,
        mistakes=NO_ROTARY
        | {
            "sine for cosine": change("image_rotary_emb", lambda pair: pair[::-1]),
            "frames backwards": change("hidden_states", lambda x: x.flip(1)),
        },
        **COGVIDEOX,
    ),
]
