"""Encodes the items of a source into the tensors of a cache's shard, in batches that fit the device."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from seppo_core.cache.manifest import CONDITION, LABEL, NOISE
from seppo_core.data.source import VIEWS, BadItem, Item, LeftOut, Source, View
from seppo_core.models.adapter import Adapter, Posterior
from seppo_core.models.vae import slice_vae, vae_on_cpu

NOT_FINITE = "its latents are not finite; a VAE in half precision may overflow"


class EncodedShard(NamedTuple):
    """Tensors of the usable items, a line about each of them, and a line about each of the others, in source order."""

    tensors: dict[str, Tensor]
    items: list[dict[str, str | list[str]]]
    rejected: list[dict[str, str | bool]]
    times: list[list]
    """Of every usable clip that tells them: file, span, rate, evenness."""


class ItemEncoder:
    """Encodes with the adapter's VAE; `batch_size` changes nothing but rounding."""

    def __init__(
        self,
        adapter: Adapter,
        source: Source,
        *,
        shape: tuple[int, ...],
        batch_size: int,
        dtype: torch.dtype,
        flip: bool,
        workers: int,
    ):
        self.adapter, self.source, self.shape = adapter, source, shape
        self.batch_size, self.dtype, self.flip, self.workers = batch_size, dtype, flip, workers
        self._told_of_cpu = False

    def read_ahead(self, positions: Iterable[int]) -> Iterator[Item | BadItem]:
        """The items at `positions`, in order, read by threads while the ones before are encoded."""
        positions = iter(positions)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="read") as pool:
            waiting: deque[Future] = deque()
            try:
                for position in islice(positions, 2 * self.batch_size + self.workers):
                    waiting.append(pool.submit(self._read, position))
                while waiting:
                    item = waiting.popleft().result()
                    for position in islice(positions, 1):
                        waiting.append(pool.submit(self._read, position))
                    yield item
            finally:
                pool.shutdown(cancel_futures=True)

    def shard(self, items: Iterable[Item | BadItem], done: Callable[[int], None]) -> EncodedShard:
        """Encodes `items`; `done` is called after every batch with the number of its items."""
        batches: list[dict[str, Tensor]] = []
        kept: list[dict[str, str | list[str]]] = []
        rejected: list[tuple[int, dict[str, str | bool]]] = []
        times: list[list] = []
        waiting: list[tuple[int, Item]] = []

        def encode_waiting() -> None:
            if waiting:
                tensors, problems = self._batch([item for _, item in waiting])
                batches.append(tensors)
                for (place, item), problem in zip(waiting, problems, strict=True):
                    if problem is None:
                        line = {"id": item.id, "file": item.file, "caption": item.caption}
                        noises = {name: view.noise for name, view in item.views.items() if view.noise is not None}
                        several = {"captions": [item.caption, *item.more]} if item.more else {}
                        kept.append(line | several | ({NOISE: noises} if noises else {}))
                        times.extend([item.file, *view.timing] for view in item.views.values() if view.timing)
                    else:
                        rejected.append((place, {"file": item.file, "reason": problem}))
                done(len(waiting))
                waiting.clear()

        for place, item in enumerate(items):
            if isinstance(item, BadItem):
                left_out = {"left_out": True} if isinstance(item, LeftOut) else {}
                rejected.append((place, {"file": item.file, "reason": item.reason} | left_out))
                done(1)
                continue
            waiting.append((place, item))
            if len(waiting) == self.batch_size:
                encode_waiting()
        encode_waiting()
        tensors = {name: torch.cat([batch[name] for batch in batches]) for name in (batches[0] if batches else ())}
        # latents are found bad later than files
        return EncodedShard(tensors, kept, [line for _, line in sorted(rejected, key=lambda pair: pair[0])], times)

    def _read(self, position: int) -> Item | BadItem:
        try:
            item = self.source.item(position)
        except BadItem as bad:
            return bad
        # an empty caption would be the row of dropped ones
        return item if item.caption.strip() else BadItem(item.file, "empty caption")

    def _batch(self, items: list[Item]) -> tuple[dict[str, Tensor], list[str | None]]:
        """Tensors of the usable ones among `items`, and for every item what is wrong with it, or None."""
        tensors: dict[str, Tensor] = {}
        problems: list[str | None] = [None] * len(items)
        for view in VIEWS[self.source.form]:
            encoded = self._encode_view([item.views[view] for item in items])
            whose = "the loser: " if view == "loser" else ""
            for place, finite in enumerate(_finite(encoded) if "mean" in encoded else ()):
                if not finite and problems[place] is None:
                    problems[place] = whose + NOT_FINITE
            tensors |= {f"{view}.{name}": tensor for name, tensor in encoded.items()}
        if self.source.form == "labels":
            tensors[LABEL] = torch.tensor([item.label for item in items]).to(torch.uint8)
        usable = torch.tensor([problem is None for problem in problems])
        return {name: tensor[usable] for name, tensor in tensors.items()}, problems

    def _encode_view(self, views: list[View]) -> dict[str, Tensor]:
        condition = self.adapter.size_condition([view.crop for view in views])
        stored = {CONDITION[1:] + name: as_stored(tensor, self.dtype) for name, tensor in condition.items()}
        if self.source.form == "prompts":
            return stored
        pixels = torch.stack([view.pixels for view in views])
        posteriors = [self._posterior(pixels)] + ([self._posterior(pixels.flip(-1))] if self.flip else [])
        return {
            "mean": torch.stack([posterior.mean for posterior in posteriors], dim=1).to(self.dtype),
            "logvar": torch.stack([posterior.logvar for posterior in posteriors], dim=1).to(self.dtype),
            **stored,
        }

    def _posterior(self, pixels: UInt8[Tensor, "b 3 *shape"]) -> Posterior:
        """The adapter's posterior, computed in parts that fit the device.

        The batch size is halved for good each time a part does not fit; a single item that does not is encoded on the
        CPU.
        """
        means, logvars = [], []
        while pixels.numel():
            part = pixels[: self.batch_size]
            try:
                mean, logvar = self._encoded(part)
            except torch.OutOfMemoryError as error:
                if self._ease(part):
                    continue
                mean, logvar = self._encoded_on_cpu(part, error)
            if mean.shape[1:] != self.shape:
                raise ValueError(f"the VAE gave latents {tuple(mean.shape[1:])} instead of the expected {self.shape}")
            means.append(mean)
            logvars.append(logvar)
            pixels = pixels[len(part) :]
        return Posterior(torch.cat(means), torch.cat(logvars))

    def _encoded(self, part: UInt8[Tensor, "b 3 *shape"]) -> tuple[Tensor, Tensor]:
        posterior = self.adapter.encode(part.to(self.adapter.vae_device).float() / 127.5 - 1)
        # a device that failed while computing says so when its result is copied
        return posterior.mean.float().cpu(), posterior.logvar.float().cpu()

    def _ease(self, part: Tensor) -> bool:
        """Makes the next try need less memory for the same latents; returns False if nothing does."""
        if len(part) > 1:
            self.batch_size = len(part) // 2
            tqdm.write(f"out of memory: encoding {self.batch_size} at a time from here on")
            return True
        if part.ndim == 5 and slice_vae(self.adapter.pipeline.vae):
            tqdm.write("out of memory: encoding the frames of a clip one by one from here on")
            return True
        return False

    def _encoded_on_cpu(self, part: Tensor, error: torch.OutOfMemoryError) -> tuple[Tensor, Tensor]:
        """Encodes one item that does not fit the device. The next one is tried there again."""
        size = f"{tuple(part.shape[1:])}"
        if not self._told_of_cpu:
            self._told_of_cpu = True
            tqdm.write(
                f"out of memory: one item of {size} does not fit the device; each that does not is encoded on the CPU, "
                "which takes many times as long. Faster are a smaller size, fewer frames, or tiles, whose latents "
                "differ a little (data.vae_tiling: true)"
            )
        try:
            with vae_on_cpu(self.adapter.pipeline.vae):
                return self._encoded(part)
        except torch.OutOfMemoryError:
            raise ValueError(
                f"one item of {size} does not fit the memory; use a smaller size, fewer frames or half precision, or "
                "encode in tiles (data.vae_tiling: true)"
            ) from error


def as_stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` on the CPU, in `dtype` if it holds floats; integers and masks keep their type."""
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu()


def _finite(encoded: dict[str, Tensor]) -> list[bool]:
    both = encoded["mean"].isfinite() & encoded["logvar"].isfinite()
    return both.flatten(1).all(1).tolist()
