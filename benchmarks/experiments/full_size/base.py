"""Writes a folder with random weights and a published architecture: all that `from_pretrained` needs."""

import json
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn
from transformers import CLIPTokenizer, PreTrainedTokenizerBase, T5Tokenizer

from benchmarks.experiments.full_size.cases import Overrides
from seppo_core.plan.architecture import INDEX, ArchitectureConfig, model_numbers

CLIP_WORDS = 49408


def make_tokenizer(class_name: str, length: int, folder: Path, vocabulary: int = 0) -> PreTrainedTokenizerBase:
    """A CLIP tokenizer for CLIP's, a unigram one of `vocabulary` pieces for every other's; `folder` is written on the
    way."""
    return _clip(length, folder) if class_name.startswith("CLIP") else _unigram(length, vocabulary)


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


def _unigram(length: int, vocabulary: int) -> T5Tokenizer:
    """Of letters; pieces that no text has fill it up to what its text encoder knows."""
    letters = [*"▁abcdefghijklmnopqrstuvwxyz,"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in letters)]
    pieces += [(f"<unused{number}>", -20.0) for number in range(vocabulary - len(pieces))]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=length)


SHARD = "2GB"
"""Size of a file: writing one takes as much memory again."""
SEED = 0


def write_base(folder: Path, numbers: ArchitectureConfig, parts: Overrides, dtype: torch.dtype) -> dict[str, int]:
    """Writes a pipeline of `numbers`, its components' configs changed by `parts`; returns their parameters by name.

    Weights are those that the classes begin with, in `dtype`. ValueError if `parts` names what the base has not.
    """
    _check(numbers, parts)
    index, counts = dict(numbers.index), {}
    for name, entry in numbers.index.items():
        if not isinstance(entry, list) or name not in numbers.parts:
            continue
        config = {**numbers.parts[name], **parts.get(name, {})}
        if name.startswith("tokenizer"):
            encoder = numbers.parts[name.replace("tokenizer", "text_encoder")]
            known = encoder.get("text_config", encoder)["vocab_size"]
            tokenizer = make_tokenizer(entry[1], config.get("model_max_length", 77), folder / name, known)
            tokenizer.save_pretrained(folder / name)
            index[name] = ["transformers", type(tokenizer).__name__]
        elif name == "scheduler":
            getattr(diffusers, entry[1]).from_config(config).save_pretrained(folder / name)
        else:
            model = make_model(entry, config, dtype)
            counts[name] = parameters_of(model)
            model.save_pretrained(folder / name, max_shard_size=SHARD)
            del model
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    return counts


def write_single(folder: Path, name: str, shipped: Path, dtype: torch.dtype) -> int:
    """Writes one model, such as motion modules, by the config that `shipped` has of `name`; its parameters."""
    config = model_numbers(name, shipped)
    if config is None:
        raise FileNotFoundError(f"nothing is known of {name!r} without network")
    model = make_model(["diffusers", config["_class_name"]], config, dtype)
    model.save_pretrained(folder, max_shard_size=SHARD)
    return parameters_of(model)


def parameters_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def make_model(entry: list[str], config: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    """A component of its config with the random weights of its class, made in `dtype`: a large one would not fit the
    memory in float32 first."""
    library, class_name = entry
    torch.manual_seed(SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        if library == "transformers":
            kind = getattr(transformers, class_name)
            model = kind(kind.config_class.from_dict(config))
        else:
            model = getattr(import_module(library), class_name).from_config(config)
    finally:
        torch.set_default_dtype(before)
    return model.to(dtype)


def denoiser_of(components: Collection[str]) -> str:
    """The name of the one that is trained."""
    return "unet" if "unet" in components else "transformer"


def numbers_on_disk(folder: Path) -> int:
    """Number of values in all safetensors files under `folder`, by their headers; buffers count too."""
    total = 0
    for path in sorted(folder.rglob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(torch.Size(about["shape"]).numel() for name, about in header.items() if name != "__metadata__")
    return total


def _check(numbers: ArchitectureConfig, parts: Overrides) -> None:
    for name, changed in parts.items():
        missing = [key for key in changed if key not in numbers.parts.get(name, {})]
        if name not in numbers.parts or missing:
            raise ValueError(f"{numbers.origin} have no {name}{''.join(f'.{key}' for key in missing[:1])} to change")
