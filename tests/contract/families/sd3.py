"""Stable Diffusion 3 in the contract."""

from functools import partial
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

from seppo_image.families.sd3 import StableDiffusion3Model
from tests.contract.family import T5_CALL, Encoded, Family
from tests.contract.mistakes import POOLED_DROPPED, THOUSANDTHS, change, no_shift, shift_of_a_square, swap_halves
from tests.tiny import T5_TOKENS, T5_WIDTH, clip_with_projection, shake, shifted_vae, t5, t5_tokenizer, tokenizer


def pipeline(folder: Path, with_t5: bool = True, dynamic: bool = False) -> StableDiffusion3Pipeline:
    """A Stable Diffusion 3.5 pipeline (two attentions in the first block), its time grid shifted by 3 or `dynamic`."""
    words = tokenizer(folder)
    torch.manual_seed(15)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    pieces = t5_tokenizer()
    pipeline = StableDiffusion3Pipeline(
        transformer=shake(transformer, seed=15).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic),
        vae=shifted_vae(),
        text_encoder=clip_with_projection(words, 16),
        tokenizer=words,
        text_encoder_2=clip_with_projection(words, 17),
        tokenizer_2=tokenizer(folder),
        text_encoder_3=t5(pieces) if with_t5 else None,
        tokenizer_3=pieces if with_t5 else None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encode(pipeline: StableDiffusion3Pipeline, prompts: list[str]) -> Encoded:
    text, empty, pooled, empty_pooled = pipeline.encode_prompt(
        prompts, None, None, device="cpu", max_sequence_length=T5_TOKENS
    )
    return {"text": text, "pooled": pooled}, {"text": empty, "pooled": empty_pooled}


SD3 = {
    # a picture of another height than width, so that rows taken for columns show
    "latent_shape": (4, 8, 12),
    "encode": encode,
    "call": T5_CALL,
    "multiple": 16,
    # the last block's answer about the text is dropped
    "unreached": r"transformer_blocks\.1\.attn\.(add_q_proj|norm_added_q)\.",
}
ROWS = [
    Family(
        "sd3",
        pipeline=pipeline,
        model=StableDiffusion3Model(base="tiny", text_tokens=T5_TOKENS),
        mistakes={
            "timestep in thousandths": THOUSANDTHS,
            "pooled text dropped": POOLED_DROPPED,
            "text encoders swapped": change("pooled_projections", swap_halves),
            "T5 dropped": change("encoder_hidden_states", lambda text: text[:, :-T5_TOKENS]),
        },
        **SD3,
    ),
    Family(
        "sd3-dynamic-no-t5",
        pipeline=partial(pipeline, with_t5=False, dynamic=True),
        model=StableDiffusion3Model(base="tiny", text_tokens=T5_TOKENS, t5=False),
        load_options={"text_encoder_3": None, "tokenizer_3": None},
        adapter_mistakes=(no_shift, shift_of_a_square),
        **SD3,
    ),
]
