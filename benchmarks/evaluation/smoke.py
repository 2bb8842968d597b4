"""Tiny random models, a judge and real samples made in place, so that the whole machinery runs without a download."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import CLIPConfig, CLIPModel

from benchmarks.evaluation import tiny_models
from benchmarks.evaluation.arguments import SMOKE_MODELS
from benchmarks.evaluation.prompt_files import import_prompts
from benchmarks.evaluation.protocols import BUNDLED, SETS, Protocol
from seppo_core.io.atomic import whole_folder
from seppo_core.io.rng import keyed_generator
from seppo_core.judging.preprocess import CLIP_MEAN, CLIP_STD
from seppo_core.models.tuning import tune_lora
from seppo_video.frames import write_clip

CHANNELS = (16, 32)
LORA_RANK = 4
WIDTH = 32


def make_models(folder: Path, kind: str) -> list[str]:
    """Writes a base, the same with its weights moved, and a LoRA on the base; returns them as --models takes them."""
    base, moved, lora = folder / kind / "base", folder / kind / "moved", folder / kind / "lora"
    for place, amount in ((base, 0.0), (moved, 0.02)):
        _make(place, lambda folder, amount=amount: _pipeline(kind, amount).save_pretrained(folder))
    _make(lora, lambda folder: _write_lora(folder, kind))
    places = (base, moved, f"{base}+lora={lora}")
    return [f"{name}={place}" for name, place in zip(SMOKE_MODELS, places, strict=True)]


def make_judge(folder: Path) -> Path:
    """A CLIP of random weights, as transformers saves one, for CLIPScore."""

    def write(place: Path) -> None:
        tokenizer = tiny_models.tokenizer()
        text = {
            "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": tiny_models.MAX_TOKENS,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }  # fmt: skip
        vision = {
            "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 16,
        }  # fmt: skip
        with _seeded("judge"):
            model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
            _move(model, 0.1)
        framing = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 3,
                   "image_mean": list(CLIP_MEAN), "image_std": list(CLIP_STD)}  # fmt: skip
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        (place / "preprocessor_config.json").write_text(json.dumps(framing), encoding="utf-8")

    return _make(folder / "clip", write)


def make_references(folder: Path, protocol: Protocol) -> Path:
    """A picture or a clip per bundled prompt, larger than the protocol's size and longer than its frames."""

    def write(place: Path) -> None:
        bundled = SETS[protocol.sets[0]].bundled
        for prompt in import_prompts(BUNDLED / str(bundled)).prompts:
            frames = _frames(prompt.id, 1 if protocol.kind == "image" else protocol.frames + 3)
            if protocol.kind == "image":
                Image.fromarray(frames[0]).save(place / f"{prompt.id}.png")
            else:
                write_clip(place / f"{prompt.id}.mp4", frames, 8)

    return _make(folder / protocol.kind / "references", write)


def _make(place: Path, write: Callable[[Path], object]) -> Path:
    """Has `write` fill the folder `place`, unless it is there; several processes that start together all get it."""
    if not place.exists():
        try:
            with whole_folder(place) as temporary:
                write(temporary)
        except OSError:
            # another process was sooner; what it wrote is the same
            if not place.exists():
                raise
    return place


def _frames(key: str, count: int) -> np.ndarray:
    """A bright square that moves over noise."""
    generator = keyed_generator("smoke", key)
    noise = torch.randint(0, 90, (count, 20, 28, 3), generator=generator, dtype=torch.uint8).numpy()
    colour = torch.randint(120, 256, (3,), generator=generator).numpy()
    for number, frame in enumerate(noise):
        frame[6:14, (2 + number) % 20 : (2 + number) % 20 + 8] = colour
    return noise


def _pipeline(kind: str, amount: float):
    with _seeded(kind):
        words_to_ids = tiny_models.tokenizer()
        encoder, picture = tiny_models.text_encoder(words_to_ids), tiny_models.unet(CHANNELS)
        denoiser = picture if kind == "image" else tiny_models.motion_unet(picture, CHANNELS)
    # weights that start at zero would make all models one
    with _seeded("zeros", kind):
        _move(denoiser, 0.05)
    with _seeded("moved", kind):
        _move(denoiser, amount)
    assemble = tiny_models.image_pipeline if kind == "image" else tiny_models.video_pipeline
    return assemble(denoiser, encoder, words_to_ids)


def _write_lora(folder: Path, kind: str) -> None:
    pipeline = _pipeline(kind, 0.0)
    with _seeded("lora", kind):
        tune_lora(pipeline.unet, ["to_q", "to_v"], LORA_RANK)
        for parameter in pipeline.unet.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter.data, std=0.2)
    state = {
        name.replace(".policy.", "."): p.detach() for name, p in pipeline.unet.named_parameters() if p.requires_grad
    }
    pipeline.save_lora_weights(folder, unet_lora_layers=state)


def _move(module: nn.Module, amount: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn(parameter.shape))


class _seeded:
    """The global generator, set for what diffusers and transformers initialise, and put back."""

    def __init__(self, *key: str):
        self.key = key

    def __enter__(self) -> None:
        self._state = torch.random.get_rng_state()
        torch.manual_seed(keyed_generator("smoke", *self.key).initial_seed())

    def __exit__(self, *_) -> None:
        torch.random.set_rng_state(self._state)
