"""A source and an adapter without files or models: what is left to measure is preparation and loading themselves."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seppo_core.data.source import Item, Source, View
from seppo_core.io.rng import keyed_normal
from seppo_core.models.adapter import Adapter, Condition, CropInfo, Posterior
from seppo_core.models.noise_path import FlowNoisePath


@dataclass(frozen=True)
class Sizes:
    """Sizes of one item: latents (channels, side, side) and text (tokens, width); `captions` items share a caption."""

    channels: int = 4
    side: int = 16
    tokens: int = 16
    width: int = 64
    captions: int = 14
    """Pick-a-Pic has 851,293 pairs of 58,960 prompts."""


TINY = Sizes()
STABLE_DIFFUSION = Sizes(side=64, tokens=77, width=768)
"""Sizes of Stable Diffusion 1.5 at 512 x 512."""


class MadeUpPictures(Source):
    """Pictures of a few grey levels that their number decides."""

    kind = "image"
    frames = 1

    def __init__(self, items: int, sizes: Sizes):
        self.items, self.sizes = items, sizes
        self.height = self.width = sizes.side

    def __len__(self) -> int:
        return self.items

    def item(self, position: int) -> Item:
        side = self.sizes.side
        pixels = torch.full((3, side, side), position % 256, dtype=torch.uint8)
        caption = f"picture of subject {position // self.sizes.captions}, in a style of its own"
        name = f"{position:08}.png"
        return Item(name, name, caption, {"winner": View(pixels, CropInfo(side, side, 0, 0, side, side))})

    def distinct_captions(self) -> int:
        return -(-self.items // self.sizes.captions)

    def fingerprint(self) -> str:
        return f"{self.items} {self.sizes}"


class EncoderOnly(Adapter):
    """An adapter that `prepare` and the loader can use, and that has no model."""

    guidance = "cfg"
    lora_targets = trainable = {}  # noqa: RUF012
    vae_device = torch.device("cpu")

    def decode(self, latents):
        raise NotImplementedError

    def predict(self, denoiser, x_t, t, condition):
        raise NotImplementedError

    def export_pipeline(self):
        raise NotImplementedError


class StandInAdapter(EncoderOnly):
    """Latents and embeddings of the right shapes, at next to no cost."""

    def __init__(self, sizes: Sizes):
        self.sizes, self.path, self.denoiser = sizes, FlowNoisePath(), nn.Linear(1, 1)
        self._words = keyed_normal((256, sizes.width), "words")

    def encode(self, pixels: Tensor) -> Posterior:
        mean = pixels[:, :1].expand(-1, self.sizes.channels, -1, -1).contiguous()
        return Posterior(mean, mean - 3)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        ids = torch.tensor([list(prompt.encode()[-self.sizes.tokens :].ljust(self.sizes.tokens)) for prompt in prompts])
        return {"text": self._words[ids]}

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        return (self.sizes.channels, height, width)
