"""Comparisons of how data reach a step: cached latents or encoding on the fly, batches made ahead or on demand."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.experiments.speed.bench import DTYPES, Bench, Prepared, Stage
from benchmarks.experiments.speed.measuring import Times, Variant
from benchmarks.experiments.speed.models import Modality, encoding_adapter
from benchmarks.experiments.standin import EncoderOnly
from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.config.method_specs import Supervision
from seppo_core.data.source import VIEWS, Item, Source, View
from seppo_core.methods.step import Batch
from seppo_core.models.adapter import Condition, CropInfo, Posterior
from seppo_core.models.patch_vae import PatchVAE
from seppo_core.plan.counter import weights_of
from seppo_core.training.batches import BatchMaker, WinnerOrder
from seppo_core.training.prefetch import Prefetch

CAPTION = "a photograph of an astronaut riding a horse through a field of flowers, number"
STRETCH = 8
"""Updates in a timed stretch of the loader, so that making the first batch is a small share of it."""
MOST = 64
"""Items of the loader's cache."""


def cache(stage: Stage) -> Prepared:
    """Diffusion-DPO, whose published script encodes both pictures and the caption anew in every step."""
    bench, count = stage.bench(), stage.subject.batch
    method = bench.method("dpo")
    batch = bench.batch(method, count)
    # as the script has them, whatever the autoencoder itself asks for
    encoder = encoding_adapter(bench.config, DTYPES[bench.precision], bench.device)
    vae = encoder.pipeline.vae
    texts = [m for name, m in encoder.pipeline.components.items() if name.startswith("text_encoder")]
    subject = stage.subject
    clip = (subject.frames,) if subject.modality == "video" else ()
    pixels = torch.rand(2 * count, 3, *clip, subject.height, subject.width, device=bench.device) * 2 - 1
    captions = [f"{CAPTION} {index}" for index in range(count)]
    kept = Posterior(batch.x0, torch.full_like(batch.x0, -10.0))

    def from_cache() -> None:
        latents = kept.sample(torch.randn_like(kept.mean))
        bench.update(method, [replace(batch, x0=latents, counterpart=latents.flip(0))])

    @torch.no_grad()
    def encoded() -> dict[str, Tensor]:
        posterior = encoder.encode(pixels)
        latents = posterior.sample(torch.randn_like(posterior.mean)).to(batch.x0)
        winner, sample = latents.chunk(2)
        return {"x0": winner, "counterpart": sample}

    @torch.no_grad()
    def captioned() -> dict[str, dict[str, Tensor]]:
        told = encoder.encode_prompts(captions)
        return {"condition": batch.condition | {name: told[name].to(batch.condition[name]) for name in told}}

    def step(*parts) -> None:
        made = {name: value for part in parts for name, value in part().items()}
        bench.update(method, [replace(batch, **made)])

    held = lambda: bench.held(batch, reference=bench.reference)  # noqa: E731
    remarks = ["The cache's own cost, reading shards and drawing noise, is in the comparison of the loader."]
    if isinstance(vae, PatchVAE):
        remarks.append("This base's autoencoder is one matrix: what encoding costs with a learned one, --base tells.")
    elif bench.precision != "fp32":
        remarks.append(f"Autoencoder and text encoder are in {bench.precision}, as the script has them.")
    return Prepared(
        [
            Variant("from the cache", from_cache, held=held),
            Variant(
                "pictures encoded",
                lambda: step(encoded),
                held=lambda: held() + weights_of(vae),
            ),
            Variant(
                "pictures and captions encoded",
                lambda: step(encoded, captioned),
                held=lambda: held() + weights_of(vae, *texts),
            ),
        ],
        remarks=lambda times: remarks,
    )


def loader(stage: Stage) -> Prepared:
    """On supervised fine-tuning, the fastest update of all, from a cache on the disk that was written just before."""
    bench, count = stage.bench(), stage.subject.batch
    method = bench.method("sft")
    made = stand_in_cache(stage.folder / "cache", bench, items=max(2 * count, min(MOST, 8 * count)))
    order = WinnerOrder(len(made), 0)
    data = bench.config.data
    maker = BatchMaker(
        cache=made, order=order, noise_path=bench.noise_path, seed=0, batch_size=count,
        caption_dropout=data.caption_dropout, flip=data.flip, posterior=data.posterior,
    )  # fmt: skip
    ready = maker.make(0, range(count), None, bench.device)
    feeds = {"when asked for": _Feed(bench, maker, 0), "ahead, by a thread": _Feed(bench, maker, data.prefetch)}

    def alone() -> None:
        for _ in range(STRETCH):
            bench.update(method, repeat(ready))

    step = Variant("update alone, batch at hand", alone, units=STRETCH)
    fed = [
        Variant(f"batches made {name}", lambda feed=feed: feed.train(method), units=STRETCH)
        for name, feed in feeds.items()
    ]
    only = Variant("making batches alone", feeds["when asked for"].make, units=STRETCH)

    def remarks(times: Sequence[Times]) -> list[str]:
        of = {one.variant.name: median(one.seconds) for one in times if one.seconds}
        said = [
            f"Of a step, {100 * median(feed.waits[-rounds:]):.1f} % is waiting for a batch made {name}."
            for name, feed in feeds.items()
            if (rounds := len(next((t.seconds for t in times if t.variant.name.endswith(name)), ())))
        ]
        if {step.name, only.name} <= of.keys():
            loads, trains = count / of[only.name], count / of[step.name]
            said.append(
                f"One thread makes {loads / trains:.1f} times as many items a second ({loads:,.0f}) as the update "
                f"takes ({trains:,.0f}). The cache was just written, so that the system holds it in memory."
            )
        return said

    return Prepared([step, *fed, only], remarks=remarks)


class _Feed:
    """Trains from a loader, and notes what share of the time it waited for batches."""

    def __init__(self, bench: Bench, maker: BatchMaker, ahead: int):
        self.bench, self.maker, self.ahead = bench, maker, ahead
        self.updates = 0
        self.waits: list[float] = []

    def train(self, method) -> None:
        began, waited = time.perf_counter(), 0.0
        with self._batches() as batches:
            for _ in range(STRETCH):
                asked = time.perf_counter()
                batch: Batch = next(batches)
                waited += time.perf_counter() - asked
                self.bench.update(method, [batch])
        self.waits.append(waited / (time.perf_counter() - began))

    def make(self) -> None:
        with self._batches() as batches:
            for _ in batches:
                pass

    def _batches(self) -> Iterator[Batch]:
        """Fresh ones each time, for the next updates."""
        keys = range(self.updates, self.updates + STRETCH)
        self.updates += STRETCH
        make = lambda update: self.maker.make(  # noqa: E731
            update, range(self.maker.batch_size), None, self.bench.device
        )
        return Prefetch(make, keys, self.ahead)


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Blank(Source):
    """Items without a picture, each with a caption of its own."""

    items: int
    kind: Modality
    height: int
    width: int
    frames: int
    form: Supervision = "winners"

    def __len__(self) -> int:
        return self.items

    def item(self, position: int) -> Item:
        clip = (self.frames,) if self.kind == "video" else ()
        pixels = torch.zeros((), dtype=torch.uint8).expand(3, *clip, self.height, self.width)
        whole = CropInfo(self.height, self.width, 0, 0, self.height, self.width)
        views = {name: View(pixels, whole) for name in VIEWS[self.form]}
        return Item(str(position), str(position), f"item {position}", views)

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


def stand_in_cache(folder: Path, bench: Bench, items: int, form: Supervision = "winners") -> WinnerCache:
    """`items` winners, or pairs, in `folder`, which must not be there yet."""
    s = bench.subject
    source = Blank(items, s.modality, s.height, s.width, s.frames, form)
    prepare(Shapes(bench), source, folder, model="stand-in", progress=False)
    return WinnerCache(folder)
