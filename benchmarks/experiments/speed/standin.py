"""A cache on the disk with items of the bench's shapes, written by the real `prepare` of an adapter that encodes
nothing: what is read afterwards is as large as it would be."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.experiments.loader.standin import EncoderOnly
from benchmarks.experiments.speed.bench import Bench
from benchmarks.experiments.speed.subjects import Modality
from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.data.source import Item, Source
from seppo_core.models.adapter import Condition, CropInfo, Posterior

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Blank(Source):
    """Items without a picture, each with a caption of its own."""

    items: int
    kind: Modality
    height: int
    width: int
    frames: int

    def __len__(self) -> int:
        return self.items

    def item(self, position: int) -> Item:
        clip = (self.frames,) if self.kind == "video" else ()
        pixels = torch.zeros((), dtype=torch.uint8).expand(3, *clip, self.height, self.width)
        whole = CropInfo(self.height, self.width, 0, 0, self.height, self.width)
        return Item(str(position), str(position), f"item {position}", pixels, whole)

    def fingerprint(self) -> str:
        return str(self)


class Shapes(EncoderOnly):
    """Noise of the shapes of a bench's latents and conditions."""

    def __init__(self, bench: Bench):
        self.bench, self.path, self.denoiser = bench, bench.adapter.path, nn.Linear(1, 1)
        self.masked_text = bench.adapter.masked_text

    def encode(self, pixels: Tensor) -> Posterior:
        mean = torch.randn(len(pixels), *self.bench.shape)
        return Posterior(mean, mean - 3)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        return self.bench.conditions.draw_text(len(prompts), CPU)

    def size_condition(self, framings: list[CropInfo]) -> Condition:
        return self.bench.adapter.size_condition(framings)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        return self.bench.shape


def stand_in_cache(folder: Path, bench: Bench, items: int) -> WinnerCache:
    """`items` winners in `folder`, which must not be there yet."""
    s = bench.subject
    source = Blank(items, s.modality, s.height, s.width, s.frames)
    prepare(Shapes(bench), source, folder, model="stand-in", progress=False)
    return WinnerCache(folder)
