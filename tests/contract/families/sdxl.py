"""Stable Diffusion XL in the contract."""

from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from seppo_image.families.sdxl import StableDiffusionXLModel
from tests.contract.family import Family, encode_pair
from tests.contract.mistakes import SDXL_MISTAKES
from tests.tiny import TEXT_WIDTH, clip_with_projection, shake, text_encoder, tokenizer, vae


def sdxl_unet() -> UNet2DConditionModel:
    torch.manual_seed(13)
    model = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * TEXT_WIDTH,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 8,
    )
    return shake(model, seed=13, scale=0.05).eval()


def pipeline(folder: Path, zeros: bool = True) -> StableDiffusionXLPipeline:
    """A Stable Diffusion XL pipeline, 64 × 64 pixels; `zeros` for the empty prompt as the published base has it."""
    words = tokenizer(folder)
    pipeline = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(words),
        text_encoder_2=clip_with_projection(words, 14),
        tokenizer=words,
        tokenizer_2=tokenizer(folder),
        unet=sdxl_unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading",
            steps_offset=1,
        ),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


ROWS = [
    Family(
        "sdxl",
        model=StableDiffusionXLModel(base="tiny"),
        latent_shape=(4, 8, 12),
        pipeline=pipeline,
        load_options={"add_watermarker": False},
        encode=encode_pair,
        mistakes=SDXL_MISTAKES,
    )
]
