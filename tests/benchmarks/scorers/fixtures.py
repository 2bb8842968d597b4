"""Small published-looking checkpoints with random weights, on disk, and the tokenizers beside them."""

from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import CLIPConfig

from tests import tiny
from tests.benchmarks.scorers.layouts_by_hand import Blip, Clip

# transformers 5 keeps PIL's numerics, with which the scorers were published, under names of their own
HAS_PIL_NAMES = hasattr(transformers, "CLIPImageProcessorPil")
ClipProcessor = transformers.CLIPImageProcessorPil if HAS_PIL_NAMES else transformers.CLIPImageProcessor
SiglipProcessor = transformers.SiglipImageProcessorPil if HAS_PIL_NAMES else transformers.SiglipImageProcessor

BERT_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "dog", "on", "the", "moon", "##s", ","]
TINY_BLIP = Blip(
    width=24,
    layers=2,
    heads=3,
    patch=8,
    image=32,
    text_width=16,
    text_layers=2,
    text_heads=2,
    text_hidden=40,
    vocabulary=len(BERT_WORDS),
    context=40,
)
PROMPTS = ["a red cat", "A dog on the moon, dogs", "the " * 100]


def clip_tokenizer_folder(folder: Path) -> Path:
    """vocab.json and merges.txt of a byte-level tokenizer; 514 words, the last two are the start and end marks."""
    tiny.tokenizer(folder)
    return folder


def bert_vocabulary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(BERT_WORDS) + "\n")
    return folder / "vocab.txt"


def pictures(count: int = 3, seed: int = 0) -> list[Image.Image]:
    """Noise and ramps of odd sizes, wide, tall and square."""
    random = np.random.default_rng(seed)
    sizes = [(45, 61), (70, 33), (32, 32), (31, 30), (97, 64)]
    arrays = [random.integers(0, 256, (*sizes[n % len(sizes)], 3), dtype=np.uint8) for n in range(count)]
    return [Image.fromarray(array) for array in arrays]


def clip_config(clip: Clip) -> CLIPConfig:
    """The same sizes for transformers."""
    act = "quick_gelu" if clip.quick_gelu else "gelu"
    return CLIPConfig(
        text_config={
            "vocab_size": clip.vocabulary,
            "hidden_size": clip.text_width,
            "intermediate_size": 4 * clip.text_width,
            "num_hidden_layers": clip.text_layers,
            "num_attention_heads": clip.text_heads,
            "max_position_embeddings": clip.context,
            "hidden_act": act,
            "bos_token_id": clip.vocabulary - 2,
            "eos_token_id": clip.vocabulary - 1,
            "pad_token_id": clip.vocabulary - 1,
        },
        vision_config={
            "hidden_size": clip.width,
            "intermediate_size": 4 * clip.width,
            "num_hidden_layers": clip.layers,
            "num_attention_heads": clip.heads,
            "patch_size": clip.patch,
            "image_size": clip.image,
            "hidden_act": act,
        },
        projection_dim=clip.embed,
    )


def save(state: dict[str, torch.Tensor], path: Path, nested: bool = False) -> Path:
    """As the authors publish it: torch.save of the state dict, or of {'state_dict': …}."""
    torch.save({"state_dict": state} if nested else state, path)
    return path
