"""Tiny models as ordinary diffusers pipelines: a few hundred thousand parameters, built without any download.

The smoke protocols use them with random weights, the embedded task of `benchmarks.experiments.toy` trains them.
"""

import json
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from diffusers import (
    AnimateDiffPipeline,
    DDIMScheduler,
    MotionAdapter,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNetMotionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from seppo_core.models.patch_vae import PatchVAE

MAX_TOKENS = 16
FRAMES = 8  # at most, per clip
WORDS = tuple(
    (
        "a black blue brown circle cross cyan green grey large left magenta moving on red right ring small "
        "square triangle white yellow"
    ).split()
)
"""The vocabulary: every word of the toy captions, sorted, since the order decides the token ids."""
WIDTH = 48  # of the text encoder, and so of cross-attention
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def _byte_characters() -> list[str]:
    """The 256 printable stand-ins for bytes of GPT-2's and CLIP's byte-level BPE (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def _merges(vocabulary: Sequence[str]) -> list[tuple[str, str]]:
    """Merge rules, in order, under which each word is one token.

    Each word is first merged by the rules so far, as BPE would, and what is left of it is joined from the left. Rules
    added later rank lower, so that words done before stay whole.
    """
    merges: list[tuple[str, str]] = []
    for word in vocabulary:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            pairs = list(pairwise(pieces))
            known = [pair for pair in merges if pair in pairs]
            if not known:
                merges.append(pairs[0])
                known = [pairs[0]]
            at = pairs.index(known[0])
            pieces[at : at + 2] = ["".join(known[0])]
    return merges


def tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer in which each of WORDS is one token and everything else falls back to bytes."""
    characters = _byte_characters()
    merges = _merges(WORDS)
    tokens = [*characters, *(f"{c}</w>" for c in characters), *("".join(pair) for pair in merges), BEGIN, END]
    with tempfile.TemporaryDirectory() as folder:
        vocab, rules = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab.write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        rules.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_TOKENS)


def text_encoder(words_to_ids: CLIPTokenizer) -> CLIPTextModel:
    """Two layers over MAX_TOKENS tokens, random weights."""
    config = CLIPTextConfig(
        vocab_size=len(words_to_ids),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=WIDTH,
        bos_token_id=words_to_ids.bos_token_id,
        eos_token_id=words_to_ids.eos_token_id,
        pad_token_id=words_to_ids.pad_token_id,
    )
    return CLIPTextModel(config)


def scheduler() -> DDIMScheduler:
    """v-prediction on the cosine schedule; trailing steps start where the noise is pure, as training does."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused by trailing steps; the pipelines warn of anything else
        timestep_spacing="trailing",
    )


def unet(channels: tuple[int, int]) -> UNet2DConditionModel:
    """Two resolutions, 8×8 and 4×4; attention, to the text too, at the lower one, which halves the cost of a step."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def motion_adapter(channels: tuple[int, int]) -> MotionAdapter:
    """Temporal attention for `unet`, over at most FRAMES frames."""
    return MotionAdapter(
        block_out_channels=channels,
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_norm_num_groups=8,
        motion_max_seq_length=FRAMES,
    )


def motion_unet(picture: UNet2DConditionModel, channels: tuple[int, int]) -> UNetMotionModel:
    """A picture UNet with new motion modules, put together as AnimateDiff puts them together.

    The modules' last projections start at zero, as in AnimateDiff (Guo et al. 2023), so that the whole starts as the
    picture UNet applied to each frame; diffusers leaves them at random.
    """
    whole = UNetMotionModel.from_unet2d(picture, motion_adapter(channels))
    for name, weight in whole.named_parameters():
        if "motion_modules" in name and ".proj_out." in name:
            nn.init.zeros_(weight)
    return whole


def image_pipeline(
    denoiser: UNet2DConditionModel, encoder: CLIPTextModel, words_to_ids: CLIPTokenizer, vae: PatchVAE | None = None
) -> StableDiffusionPipeline:
    """The parts as the pipeline that is saved; the encoder only understands the tokenizer it was trained with."""
    return StableDiffusionPipeline(
        vae=vae or PatchVAE(),
        text_encoder=encoder,
        tokenizer=words_to_ids,
        unet=denoiser,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def video_pipeline(
    denoiser: UNetMotionModel, encoder: CLIPTextModel, words_to_ids: CLIPTokenizer, vae: PatchVAE | None = None
) -> AnimateDiffPipeline:
    """The parts as an AnimateDiff pipeline around a whole motion UNet."""
    return AnimateDiffPipeline(
        vae=vae or PatchVAE(),
        text_encoder=encoder,
        tokenizer=words_to_ids,
        unet=denoiser,
        motion_adapter=None,
        scheduler=scheduler(),
    )


def split(whole: UNetMotionModel, channels: tuple[int, int]) -> tuple[UNet2DConditionModel, MotionAdapter]:
    """Takes a motion UNet apart into the picture UNet and the motion adapter that make it up, exactly."""
    picture, adapter = unet(channels), motion_adapter(channels)
    weights = whole.state_dict()
    picture.load_state_dict({k: v for k, v in weights.items() if "motion_modules" not in k})
    adapter.load_state_dict({k: v for k, v in weights.items() if "motion_modules" in k})
    return picture, adapter
