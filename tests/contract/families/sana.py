"""Sana in the contract."""

from pathlib import Path

import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel
from transformers import Gemma2Config, Gemma2Model

from seppo_image.families.sana import SanaModel
from seppo_image.sana import INSTRUCTION
from tests.contract.family import T5_CALL, Encoded, Family
from tests.contract.mistakes import MASK_DROPPED, TEXT_DROPPED, THOUSANDTHS
from tests.tiny import T5_TOKENS, T5_WIDTH, shake, t5_tokenizer


def pipeline(folder: Path) -> SanaPipeline:
    """A Sana pipeline of 8 × 8 pixels per latent; its tokenizer is T5's kind, for Gemma's needs a file."""
    pieces = t5_tokenizer()
    torch.manual_seed(21)
    language_model = Gemma2Model(
        Gemma2Config(
            vocab_size=len(pieces),
            hidden_size=T5_WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )
    torch.manual_seed(22)
    autoencoder = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        scaling_factor=0.4,
    )
    torch.manual_seed(23)
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=T5_WIDTH,
        sample_size=8,
    )
    pipeline = SanaPipeline(
        tokenizer=pieces,
        text_encoder=shake(language_model, seed=21).eval(),
        vae=shake(autoencoder, seed=22, scale=0.02).eval(),
        transformer=shake(transformer, seed=23).eval(),
        scheduler=DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, beta_schedule="linear"
        ),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encode(pipeline: SanaPipeline, prompts: list[str]) -> Encoded:
    text, mask, empty, empty_mask = pipeline.encode_prompt(
        prompts, max_sequence_length=T5_TOKENS, complex_human_instruction=INSTRUCTION.split("\n")
    )
    return {"text": text, "mask": mask}, {"text": empty, "mask": empty_mask}


ROWS = [
    Family(
        "sana",
        latent_shape=(4, 8, 12),
        pipeline=pipeline,
        model=SanaModel(base="tiny", text_tokens=T5_TOKENS),
        encode=encode,
        call=T5_CALL | {"use_resolution_binning": False},
        mistakes={
            "timestep in thousandths": THOUSANDTHS,
            "mask dropped": MASK_DROPPED,
            "text dropped": TEXT_DROPPED,
        },
    )
]
