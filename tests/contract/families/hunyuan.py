"""HunyuanVideo in the contract."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, LlamaConfig, LlamaModel, T5Tokenizer

from seppo_video.families.hunyuan import HunyuanVideoModel
from tests.contract.family import Encoded, Family
from tests.contract.mistakes import (
    MASK_DROPPED,
    POOLED_DROPPED,
    TEXT_DROPPED,
    THOUSANDTHS,
    change,
    guided_as_in_training,
)
from tests.tiny import T5_WIDTH, TEXT_WIDTH, shake, tokenizer

HUNYUAN_TOKENS = 30
"""As `T5_TOKENS`, and what ends the instruction."""


def instructed_tokenizer() -> T5Tokenizer:
    """Letters, and the words of HunyuanVideo's instruction in so many pieces that it takes the tokens that it should.

    It stands for LLaMA's, which needs files.
    """
    words = DEFAULT_PROMPT_TEMPLATE["template"].split("{}")[0].split()
    letters = [*"▁abcdefghijklmnopqrstuvwxyz,"]
    cut, missing = {}, DEFAULT_PROMPT_TEMPLATE["crop_start"] - len(words)
    # dict.fromkeys keeps the order; that of a set changes with every process
    for word in sorted(dict.fromkeys(words), key=lambda word: -len(word)):
        halve = words.count(word) <= missing
        missing -= words.count(word) * halve
        middle = len(word) // 2 if halve else 0
        cut |= dict.fromkeys([f"▁{word[:middle]}", word[middle:]] if halve else [f"▁{word}"])
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((piece, -1.0) for piece in dict.fromkeys([*letters, *cut])),
    ]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def clip_text(words: CLIPTokenizer) -> CLIPTextModel:
    """As long as the published ones: the pipeline asks for 77 tokens whatever the tokenizer says."""
    torch.manual_seed(41)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return shake(CLIPTextModel(config), seed=41).eval()


def pipeline(folder: Path) -> HunyuanVideoPipeline:
    """A HunyuanVideo pipeline; `folder` holds CLIP's tokenizer."""
    words = tokenizer(folder)
    pieces = instructed_tokenizer()
    torch.manual_seed(42)
    language_model = LlamaModel(
        LlamaConfig(
            vocab_size=len(pieces),
            hidden_size=T5_WIDTH,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            pad_token_id=0,
        )
    )
    torch.manual_seed(43)
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )
    torch.manual_seed(44)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=T5_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        rope_axes_dim=(4, 6, 6),
    )
    pipeline = HunyuanVideoPipeline(
        text_encoder=shake(language_model, seed=42).eval(),
        tokenizer=pieces,
        transformer=shake(transformer, seed=44).eval(),
        vae=shake(vae, seed=43, scale=0.02).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=clip_text(words),
        tokenizer_2=words,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encode(pipeline: HunyuanVideoPipeline, prompts: list[str]) -> Encoded:
    conditions = []
    for some in (prompts, [""] * len(prompts)):
        text, pooled, mask = pipeline.encode_prompt(some, max_sequence_length=HUNYUAN_TOKENS)
        conditions.append({"text": text, "mask": mask, "pooled": pooled})
    return conditions[0], conditions[1]


ROWS = [
    Family(
        "hunyuan",
        latent_shape=(4, 2, 4, 6),
        pipeline=pipeline,
        # 1000 times the guidance is embedded: 4000 is the same in bfloat16, 6000 is not
        model=HunyuanVideoModel(base="tiny", text_tokens=HUNYUAN_TOKENS, training_guidance=4.0),
        encode=encode,
        call={"max_sequence_length": HUNYUAN_TOKENS},
        multiple=16,
        frames=5,
        whole_clips=True,
        frames_rule=r"use 4k \+ 1, e\.g\. 1(001)?$",
        mistakes={
            "timestep in thousandths": THOUSANDTHS,
            "mask dropped": MASK_DROPPED,
            "text dropped": TEXT_DROPPED,
            "pooled text dropped": POOLED_DROPPED,
            "guidance in thousandths": change("guidance", lambda guidance: guidance / 1000),
        },
        adapter_mistakes=(guided_as_in_training,),
    )
]
