"""AnimateDiff on Stable Diffusion XL in the contract."""

from pathlib import Path

import torch
from diffusers import AnimateDiffSDXLPipeline, MotionAdapter, UNetMotionModel
from einops import rearrange

from seppo_video.families.animatediff_sdxl import AnimateDiffXLModel
from tests.contract.families import sdxl
from tests.contract.family import Family, encode_pair
from tests.contract.mistakes import SDXL_MISTAKES, change
from tests.tiny import MOTION_LENGTH, linear_scheduler, shake


def motion() -> MotionAdapter:
    """To go with `sdxl.pipeline`; as SDXL's published motion, with none in the middle block."""
    torch.manual_seed(41)
    model = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        motion_max_seq_length=MOTION_LENGTH,
        use_motion_mid_block=False,
    )
    return shake(model, seed=41, scale=0.05).eval()


def pipeline(folder: Path, zeros: bool = True) -> AnimateDiffSDXLPipeline:
    """The parts of `sdxl.pipeline` with motion modules, on linear betas."""
    image, modules = sdxl.pipeline(folder, zeros), motion()
    unet = UNetMotionModel.from_unet2d(image.unet, modules)
    # diffusers leaves these at random
    unet.add_embedding.load_state_dict(image.unet.add_embedding.state_dict())
    components = image.components | {"unet": unet, "motion_adapter": modules, "scheduler": linear_scheduler()}
    pipeline = AnimateDiffSDXLPipeline(**components, force_zeros_for_empty_prompt=zeros)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


ROWS = [
    Family(
        "animatediff-sdxl",
        latent_shape=(4, 4, 8, 12),
        pipeline=pipeline,
        model=AnimateDiffXLModel(base="tiny"),
        encode=encode_pair,
        frames=4,
        mistakes=SDXL_MISTAKES
        | {
            "text of the wrong frames": change(
                "encoder_hidden_states", lambda text: rearrange(text, "(b f) n d -> (f b) n d", f=4)
            ),
            "frames backwards": change("sample", lambda x: x.flip(2)),
        },
    )
]
