"""Qwen-Image in the contract."""

import re
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from seppo_core.models.adapter import Adapter
from seppo_image.families.qwen_image import QwenImageModel
from tests.contract.family import T5_CALL, Encoded, Family
from tests.contract.mistakes import TEXT_DROPPED, change, no_shift, shift_of_a_square
from tests.tiny import T5_TOKENS, T5_WIDTH, shake

INSTRUCTION = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background"
)


def tokenizer() -> Qwen2Tokenizer:
    """Bytes, and whole words of the instruction, so that it takes the 34 tokens that the pipeline cuts off."""
    words = Qwen2Tokenizer(
        vocab={letter: index for index, letter in enumerate(bytes_to_unicode().values())},
        merges=[],
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    words.add_tokens(["system", "user", "assistant", *dict.fromkeys(re.findall(r" ?\w+", INSTRUCTION))])
    return words


def language_model(words: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(61)
    text = {
        "vocab_size": len(words),
        "hidden_size": T5_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 4, 4]},
        "max_window_layers": 2,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": T5_WIDTH}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return shake(Qwen2_5_VLForConditionalGeneration(config), seed=61).eval()


def pipeline(folder: Path) -> QwenImagePipeline:
    """A Qwen-Image pipeline, its time grid shifted and stretched as the published base's; `folder` is not needed."""
    words = tokenizer()
    torch.manual_seed(62)
    vae = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[-0.3, 0.1, 0.2, 0.0],
        latents_std=[0.8, 1.2, 0.5, 1.0],
    )
    torch.manual_seed(63)
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    pipeline = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        vae=shake(vae, seed=62, scale=0.02).eval(),
        text_encoder=language_model(words),
        tokenizer=words,
        # in bfloat16 the denoiser takes t = 700 for 699.2: with larger weights that outweighs all other rounding
        transformer=shake(transformer, seed=63, scale=0.07).eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encode(pipeline: QwenImagePipeline, prompts: list[str]) -> Encoded:
    """The pipeline pads to its longest caption, and gives no mask where none is padded."""
    conditions = []
    for some in (prompts, [""] * len(prompts)):
        text, mask = pipeline.encode_prompt(some, max_sequence_length=T5_TOKENS)
        mask = torch.ones(text.shape[:2], dtype=torch.long) if mask is None else mask
        more = T5_TOKENS - text.shape[1]
        conditions.append({"text": pad(text, (0, 0, 0, more)), "mask": pad(mask, (0, more))})
    return conditions[0], conditions[1]


def guided(prompts: list[str], scale: float) -> dict:
    """The pipeline's "guidance_scale" is for distilled models."""
    return {"true_cfg_scale": scale, "negative_prompt": [""] * len(prompts)}


def scaling(pipeline: QwenImagePipeline) -> tuple[Tensor, Tensor]:
    """As the pipeline undoes it before it decodes."""
    config = pipeline.vae.config
    mean, std = (torch.tensor(x).view(1, -1, 1, 1, 1) for x in (config.latents_mean, config.latents_std))
    return mean, 1 / std


def pack(latents: Tensor) -> Tensor:
    return QwenImagePipeline._pack_latents(latents, *latents.shape)


def unpack(tokens: Tensor, latent_shape: tuple[int, ...]) -> Tensor:
    return QwenImagePipeline._unpack_latents(tokens, latent_shape[-2] * 8, latent_shape[-1] * 8, 8).squeeze(2)


def patches_first(tokens: Tensor) -> Tensor:
    return rearrange(tokens, "b n (c p) -> b n (p c)", p=4)


def transposed(shapes: list) -> list:
    return [[(frames, columns, rows) for frames, rows, columns in shape] for shape in shapes]


def plain_guidance(adapter: Adapter) -> None:
    """Lengths that are those of classifier-free guidance."""
    adapter.guide = lambda without, given, scale: without + scale * (given - without)


def guidance_by_pixel(adapter: Adapter) -> None:
    """The length of a latent's channels, not of a token's."""

    def guide(without: Tensor, given: Tensor, scale: float) -> Tensor:
        made = without + scale * (given - without)
        return made * given.norm(dim=1, keepdim=True) / made.norm(dim=1, keepdim=True)

    adapter.guide = guide


ROWS = [
    Family(
        "qwen-image",
        latent_shape=(4, 8, 12),
        pipeline=pipeline,
        model=QwenImageModel(base="tiny", text_tokens=T5_TOKENS),
        encode=encode,
        call=T5_CALL,
        guided=guided,
        pack=pack,
        unpack=unpack,
        multiple=16,
        whole_clips=True,
        scaling=scaling,
        unreached=r"transformer_blocks\.1\.(attn\.(add_q_proj|norm_added_q|to_add_out)|txt_mlp)\.",
        mistakes={
            "timestep not in thousandths": change("timestep", lambda t: t * 1000),
            "text dropped": TEXT_DROPPED,
            "mask dropped": change("encoder_hidden_states_mask", torch.ones_like),
            "patches before channels": change("hidden_states", patches_first),
            "rows and columns swapped": change("img_shapes", transposed),
        },
        adapter_mistakes=(no_shift, shift_of_a_square, plain_guidance, guidance_by_pixel),
    )
]
