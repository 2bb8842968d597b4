"""Encodes winners once into a cache, shard by shard, so that a run that was stopped goes on where it was."""

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from seppo_core.adapter import Adapter, Condition, Posterior
from seppo_core.cache import FRAME, VERSION, Manifest, Stored
from seppo_core.cache_folder import CacheFolder, Part, check_space
from seppo_core.source import BadItem, Item, Source

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHARD_BYTES = 128 * 1024**2
TEXT_BATCH = 32


@torch.no_grad()
def prepare(
    adapter: Adapter,
    source: Source,
    folder: str | Path,
    *,
    model: str,
    batch_size: int = 8,
    shard_size: int | None = None,
    dtype: str = "float32",
    flip: bool = False,
    max_rejected_share: float = 0.5,
    overwrite: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> Manifest:
    """Encodes the winners of `source` into a cache at `folder` and tells what it holds.

    `model` names the VAE and the text encoder that `adapter` carries, so that a cache of others is not taken for this
    one. A shard holds `shard_size` rows of the source, or about 128 MB. Items that cannot be used are skipped, counted
    and listed with the reason in `rejected.jsonl`. A call with the same arguments goes on at the first missing shard,
    or returns at once where all is done; `workers` threads read files ahead, and change nothing but speed.

    Raises ValueError where nothing is left, where more than `max_rejected_share` of the items is unusable, or where
    `folder` holds another cache (`overwrite` removes that one); FileExistsError where it holds the user's files;
    OSError where the disk is too small.
    """
    if min(batch_size, workers, 1 if shard_size is None else shard_size) < 1:
        raise ValueError(f"batch_size {batch_size}, shard_size {shard_size} and workers {workers} must be at least 1")
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    shape = adapter.latent_shape(source.height, source.width, source.frames)
    item_bytes = 2 * (1 + flip) * math.prod(shape) * DTYPES[dtype].itemsize
    shard_size = shard_size or _rows_in_shard(item_bytes)
    settings = {
        "version": VERSION,
        "kind": source.kind,
        "model": model,
        "source": source.fingerprint(),
        "latent_shape": list(shape),
        "dtype": dtype,
        "flip": flip,
        "shard_size": shard_size,
    }
    fingerprint = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    target = CacheFolder(Path(folder), fingerprint, settings)
    finished = target.claim(overwrite)
    if finished is not None:
        if progress:
            tqdm.write(f"{folder} is prepared already: {finished.items} items")
        return finished
    shards = [range(start, min(start + shard_size, len(source))) for start in range(0, len(source), shard_size)]
    missing = [number for number in range(len(shards)) if target.part(_items(number)) is None]
    check_space(target.folder, item_bytes * sum(len(shards[number]) for number in missing))

    encoder = _ItemEncoder(adapter, source, shape, batch_size, DTYPES[dtype], flip, workers)
    _encode_items(target, encoder, shards, missing, max_rejected_share, progress)
    rejected = target.save_rejected(_parts(target, len(shards)))
    items = len(source) - rejected.rows
    if not items:
        raise ValueError(
            f"nothing is left of the {len(source)} items of the source: {_first_reasons(target, len(shards))}"
        )
    if rejected.rows > max_rejected_share * len(source):
        raise ValueError(_too_many(target, len(shards), rejected.rows, len(source), max_rejected_share))

    text_rows: dict[str, int] = {"": 0}
    for part in _parts(target, len(shards)):
        for item in part.items:
            text_rows.setdefault(item["caption"], len(text_rows))
    texts = _encode_texts(target, adapter, list(text_rows), settings["shard_size"], DTYPES[dtype], progress)
    manifest = Manifest(
        kind=source.kind,
        model=model,
        latent_shape=shape,
        rows=1 + flip,
        dtype=dtype,
        items=items,
        rejected=rejected.rows,
        captions=len(text_rows) - 1,
        fingerprint=fingerprint,
        settings=settings,
        shards=tuple(part.stored for part in _parts(target, len(shards)) if part.stored),
        texts=texts,
        tables=(*target.save_items(_parts(target, len(shards)), text_rows), rejected),
    )
    target.finish(manifest)
    if progress:
        tail = f"; {rejected.rows} rejected, see {target.folder / 'rejected.jsonl'}" if rejected.rows else ""
        tqdm.write(f"{folder}: {items} items with {manifest.captions} distinct captions{tail}")
    return manifest


class _ItemEncoder:
    """Turns positions of the source into the tensors of a shard."""

    def __init__(
        self,
        adapter: Adapter,
        source: Source,
        shape: tuple[int, ...],
        batch_size: int,
        dtype: torch.dtype,
        flip: bool,
        workers: int,
    ):
        self.adapter, self.source, self.shape = adapter, source, shape
        self.batch_size, self.dtype, self.flip, self.workers = batch_size, dtype, flip, workers

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

    def shard(self, items: Iterable[Item | BadItem], progress: tqdm) -> tuple[dict[str, Tensor], list, list]:
        """Tensors of the usable items, a line about each of them, and a line about each of the others."""
        batches: list[dict[str, Tensor]] = []
        kept: list[dict[str, str]] = []
        rejected: list[tuple[int, dict[str, str]]] = []
        waiting: list[tuple[int, Item]] = []

        def encode_waiting() -> None:
            if waiting:
                tensors, usable = self._batch([item for _, item in waiting])
                batches.append(tensors)
                for (place, item), good in zip(waiting, usable, strict=True):
                    if good:
                        kept.append({"id": item.id, "file": item.file, "caption": item.caption})
                    else:
                        reason = "its latents are not finite; a VAE in half precision may overflow"
                        rejected.append((place, {"file": item.file, "reason": reason}))
                progress.update(len(waiting))
                waiting.clear()

        for place, item in enumerate(items):
            if isinstance(item, BadItem):
                rejected.append((place, {"file": item.file, "reason": item.reason}))
                progress.update()
                continue
            waiting.append((place, item))
            if len(waiting) == self.batch_size:
                encode_waiting()
        encode_waiting()
        tensors = {name: torch.cat([batch[name] for batch in batches]) for name in (batches[0] if batches else ())}
        # latents are found bad later than files
        return tensors, kept, [rejection for _, rejection in sorted(rejected, key=lambda pair: pair[0])]

    def _read(self, position: int) -> Item | BadItem:
        try:
            item = self.source.item(position)
        except BadItem as bad:
            return bad
        # an empty caption would be the row of dropped ones
        return item if item.caption.strip() else BadItem(item.file, "empty caption")

    def _batch(self, items: list[Item]) -> tuple[dict[str, Tensor], list[bool]]:
        pixels = torch.stack([item.pixels for item in items])
        rows = [self._posterior(pixels)] + ([self._posterior(pixels.flip(-1))] if self.flip else [])
        tensors = {
            "mean": torch.stack([row.mean for row in rows], dim=1).to(self.dtype),
            "logvar": torch.stack([row.logvar for row in rows], dim=1).to(self.dtype),
        }
        framing = self.adapter.frame_condition([item.framing for item in items])
        tensors |= {FRAME + name: _stored(tensor, self.dtype) for name, tensor in framing.items()}
        usable = (tensors["mean"].isfinite() & tensors["logvar"].isfinite()).flatten(1).all(1)
        return {name: tensor[usable] for name, tensor in tensors.items()}, usable.tolist()

    def _posterior(self, pixels: UInt8[Tensor, "b 3 *shape"]) -> Posterior:
        """The adapter's posterior, in parts that fit the device: halved for good each time one does not."""
        means, logvars = [], []
        while pixels.numel():
            part = pixels[: self.batch_size]
            try:
                posterior = self.adapter.encode(part.to(self.adapter.device).float() / 127.5 - 1)
                # copying is where a device that failed while computing says so
                mean, logvar = posterior.mean.float().cpu(), posterior.logvar.float().cpu()
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise ValueError(
                        f"one item of {tuple(part.shape[1:])} does not fit the device's memory; use a smaller size, "
                        "fewer frames or half precision"
                    ) from error
                self.batch_size = len(part) // 2
                tqdm.write(f"out of memory: encoding {self.batch_size} at a time from here on")
                continue
            if mean.shape[1:] != self.shape:
                raise ValueError(f"the VAE gave latents {tuple(mean.shape[1:])} where {self.shape} were expected")
            means.append(mean)
            logvars.append(logvar)
            pixels = pixels[len(part) :]
        return Posterior(torch.cat(means), torch.cat(logvars))


def _encode_items(
    target: CacheFolder,
    encoder: _ItemEncoder,
    shards: list[range],
    missing: list[int],
    max_rejected_share: float,
    progress: bool,
) -> None:
    total = len(encoder.source)
    rejected = kept = 0
    for part in _parts(target, len(shards)):
        rejected, kept = rejected + len(part.rejected), kept + len(part.items)
    unit = {"image": " images", "video": " clips"}[encoder.source.kind]
    positions = chain.from_iterable(shards[number] for number in missing)
    done = total - sum(len(shards[number]) for number in missing)
    with (
        tqdm(total=total, initial=done, desc="encode", unit=unit, disable=not progress) as bar,
        closing(encoder.read_ahead(positions)) as items,
    ):
        for number in missing:
            tensors, usable, bad = encoder.shard(islice(items, len(shards[number])), bar)
            target.save(_items(number), tensors, len(usable), usable, bad)
            rejected, kept = rejected + len(bad), kept + len(usable)
            bar.set_postfix(rejected=rejected, refresh=False)
            # where not one was usable, going on costs little and shows whether any is
            if kept and rejected > max_rejected_share * total:
                target.save_rejected(_parts(target, len(shards)))
                raise ValueError(_too_many(target, len(shards), rejected, total, max_rejected_share))


def _encode_texts(
    target: CacheFolder, adapter: Adapter, captions: list[str], shard_size: int, dtype: torch.dtype, progress: bool
) -> tuple[Stored, ...]:
    """Writes one row per caption, the empty one first; row numbers are positions in `captions`."""
    empty = adapter.encode_prompts([""])
    rows = min(shard_size, _rows_in_shard(sum(tensor.nbytes for tensor in empty.values())))
    stored = []
    with tqdm(total=len(captions), desc="captions", unit=" captions", disable=not progress) as bar:
        for number, start in enumerate(range(0, len(captions), rows)):
            prompts = captions[start : start + rows]
            part = target.part(f"text-{number:05}")
            if part is None:
                batches = [
                    _one_shape(adapter.encode_prompts(prompts[at : at + TEXT_BATCH]), empty, dtype)
                    for at in range(0, len(prompts), TEXT_BATCH)
                ]
                tensors = {name: torch.cat([batch[name] for batch in batches]) for name in empty}
                part = target.save(f"text-{number:05}", tensors, len(prompts), [], [])
            stored.append(part.stored)
            bar.update(len(prompts))
    return tuple(stored)


def _one_shape(condition: Condition, empty: Condition, dtype: torch.dtype) -> Condition:
    for name, tensor in condition.items():
        if name not in empty or tensor.shape[1:] != empty[name].shape[1:]:
            raise ValueError(
                f"the text encoder gave {name!r} of shape {tuple(tensor.shape[1:])}, for the empty caption "
                f"{ {key: tuple(value.shape[1:]) for key, value in empty.items()} }; pad prompts to one length"
            )
    stored = {name: _stored(tensor, dtype) for name, tensor in condition.items()}
    for name, tensor in stored.items():
        if tensor.is_floating_point() and condition[name].isfinite().all() and not tensor.isfinite().all():
            raise ValueError(f"text embeddings {name!r} overflow {dtype}; store them as bfloat16 or float32")
    return stored


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu()


def _rows_in_shard(row_bytes: int) -> int:
    return max(1, min(4096, SHARD_BYTES // row_bytes))


def _items(number: int) -> str:
    return f"items-{number:05}"


def _parts(target: CacheFolder, count: int) -> Iterator[Part]:
    return (part for number in range(count) if (part := target.part(_items(number))) is not None)


def _first_reasons(target: CacheFolder, shards: int, count: int = 3) -> str:
    rejected = chain.from_iterable(part.rejected for part in _parts(target, shards))
    reasons = [f"{rejection['file']}: {rejection['reason']}" for rejection in islice(rejected, count)]
    return f"{'; '.join(reasons)}; all of them in {target.folder / 'rejected.jsonl'}"


def _too_many(target: CacheFolder, shards: int, rejected: int, total: int, share: float) -> str:
    return (
        f"{rejected} of {total} items cannot be used, more than max_rejected_share {share} allows; mend them or raise "
        f"it: {_first_reasons(target, shards)}"
    )
