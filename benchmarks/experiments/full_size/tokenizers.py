"""Tokenizers made in place: single letters, with the ids that a published text encoder takes its ends from."""

import json
from pathlib import Path

from transformers import CLIPTokenizer, PreTrainedTokenizerBase, T5Tokenizer

CLIP_WORDS = 49408


def make_tokenizer(class_name: str, length: int, folder: Path) -> PreTrainedTokenizerBase:
    """A CLIP tokenizer for CLIP's, a unigram one for every other's; `folder` is written on the way."""
    return _clip(length, folder) if class_name.startswith("CLIP") else _unigram(length)


def _clip(length: int, folder: Path) -> CLIPTokenizer:
    """Byte-level and without merges; words that no text has fill it up to CLIP's own last two."""
    folder.mkdir(parents=True, exist_ok=True)
    # byte-level coding writes printable bytes as themselves and the others as the letters from U+0100 on
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + place) for place in range(256 - len(printable))]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"<unused{number}>" for number in range(CLIP_WORDS - 2 - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=length)


def _unigram(length: int) -> T5Tokenizer:
    letters = [*"▁abcdefghijklmnopqrstuvwxyz,"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in letters)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=length)
