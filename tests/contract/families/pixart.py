"""PixArt-Σ in the contract."""

from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

from seppo_core.models.adapter import Adapter
from seppo_image.families.pixart import PixArtSigmaModel
from tests.contract.family import T5_CALL, Family, encode_masked
from tests.contract.mistakes import MASK_DROPPED, TEXT_DROPPED, THOUSANDTHS
from tests.tiny import T5_TOKENS, T5_WIDTH, shake, t5, t5_tokenizer, vae


def pipeline(folder: Path) -> PixArtSigmaPipeline:
    """A PixArt-Σ pipeline that answers a variance behind ε, on the published base's solver and betas."""
    pieces = t5_tokenizer()
    torch.manual_seed(24)
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=T5_WIDTH,
    )
    pipeline = PixArtSigmaPipeline(
        tokenizer=pieces,
        text_encoder=t5(pieces),
        vae=vae(),
        transformer=shake(transformer, seed=24).eval(),
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def variance_first(adapter: Adapter) -> None:
    """What a denoiser with a learnt variance would answer if it came before ε."""
    adapter.denoiser.register_forward_hook(lambda module, given, answer: (answer[0].roll(4, dims=1),))


ROWS = [
    Family(
        "pixart-sigma",
        latent_shape=(4, 8, 12),
        pipeline=pipeline,
        model=PixArtSigmaModel(base="tiny", text_tokens=T5_TOKENS),
        encode=encode_masked,
        call=T5_CALL | {"use_resolution_binning": False, "clean_caption": False},
        multiple=16,
        mistakes={
            "timestep in thousandths": THOUSANDTHS,
            "mask dropped": MASK_DROPPED,
            "text dropped": TEXT_DROPPED,
        },
        adapter_mistakes=(variance_first,),
    )
]
