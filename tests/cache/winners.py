"""A source and an adapter that need no model and no files, for tests of what lies between them."""

from types import SimpleNamespace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seppo_core.config.method_specs import Supervision
from seppo_core.data.source import VIEWS, BadItem, Item, Source, View
from seppo_core.models.adapter import Adapter, Condition, CropInfo, Posterior
from seppo_core.models.patch_vae import PatchVAE


class ListSource(Source):
    """Pictures, or clips where `frames` > 1, made up from their position; those in `bad` cannot be used.

    The loser of a pair has pixels of its own; every third of labelled items is good.
    """

    height = width = 8

    def __init__(
        self, captions: list[str], bad: dict[int, str] | None = None, frames: int = 1, form: Supervision = "winners"
    ):
        self.captions, self.bad, self.frames, self.form = captions, bad or {}, frames, form
        self.kind = "image" if frames == 1 else "video"

    def __len__(self) -> int:
        return len(self.captions)

    def pixels(self, position: int, loser: bool = False) -> Tensor:
        shape = (3, 8, 8) if self.frames == 1 else (3, self.frames, 8, 8)
        generator = torch.Generator().manual_seed(position + 1000 * loser)
        return torch.randint(0, 256, shape, generator=generator).byte()

    def item(self, position: int) -> Item:
        file = f"{position}.png"
        if position in self.bad:
            raise BadItem(file, self.bad[position])
        crop = CropInfo(100 + position, 200, 0, 3, 8, 8)
        views = {VIEWS[self.form][0]: View(self.pixels(position), crop)}
        if self.form == "pairs":
            views["loser"] = View(self.pixels(position, loser=True), crop._replace(original_height=300 + position))
        label = position % 3 == 0 if self.form == "labels" else None
        return Item(f"id {position}", file, self.captions[position], views, label)

    def fingerprint(self) -> str:
        return repr((self.captions, self.bad, self.frames, self.form))


class PixelAdapter(Adapter):
    """Latents are folded pixels with a width of their own; text is the caption's bytes. `calls` lists batch sizes."""

    guidance = "cfg"
    lora_targets = trainable = {}  # noqa: RUF012

    def __init__(self, largest_batch: int | None = None):
        self.vae, self.denoiser = PatchVAE(), nn.Linear(1, 1)
        self.pipeline = SimpleNamespace(vae=self.vae)
        self.largest_batch = largest_batch
        self.calls: list[int] = []
        self.prompts: list[str] = []

    def encode(self, pixels: Float[Tensor, "b 3 *shape"]) -> Posterior:
        self.calls.append(len(pixels))
        if self.largest_batch is not None and len(pixels) > self.largest_batch:
            raise torch.OutOfMemoryError("planted")
        if pixels.ndim == 5:
            folded = torch.stack([self.vae.encode(frame).latent_dist.mean for frame in pixels.unbind(2)], dim=2)
        else:
            folded = self.vae.encode(pixels).latent_dist.mean
        return Posterior(folded, folded.square() - 3)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        return (12, height // 2, width // 2) if frames == 1 else (12, frames, height // 2, width // 2)

    def encode_prompts(self, prompts: list[str]) -> Condition:
        self.prompts += prompts
        tokens = torch.tensor([list(prompt.encode()[:6].ljust(6, b"\0")) for prompt in prompts])
        return {"text": torch.sin(tokens[..., None] * torch.arange(1.0, 5.0)), "mask": tokens > 0}

    def size_condition(self, framings: list[CropInfo]) -> Condition:
        return {"size": torch.tensor([[framing.original_height, framing.left] for framing in framings])}

    def decode(self, latents):
        raise NotImplementedError

    def predict(self, denoiser, x_t, t, condition):
        raise NotImplementedError

    def export_pipeline(self):
        raise NotImplementedError
