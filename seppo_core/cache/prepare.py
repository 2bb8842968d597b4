"""Encodes a source into a cache, shard by shard, so that a killed launch continues where it stopped."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from tqdm import tqdm

from seppo_core.cache.clip_times import ClipTimes
from seppo_core.cache.cut_captions import CutCaptions, as_json, cut_text, from_json, joined, of_cache
from seppo_core.cache.encode_captions import TextEncoder
from seppo_core.cache.encode_items import ItemEncoder
from seppo_core.cache.manifest import FINGERPRINT_VERSION, Manifest, captions_of
from seppo_core.cache.writer import CacheFolder, ShardNote
from seppo_core.data.source import Source
from seppo_core.distributed.progress import RankProgress
from seppo_core.distributed.ranks import ALONE, Ranks
from seppo_core.distributed.store import RunStore
from seppo_core.io.hashing import sha256_json
from seppo_core.io.locks import LaunchLock
from seppo_core.io.space import check_space, free_bytes
from seppo_core.models.adapter import Adapter

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHARD_BYTES = 128 * 1024**2


class _Count(NamedTuple):
    kept: int
    rejected: int
    left_out: int


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
    tiled: bool = False,
    encoding: Mapping[str, str | int | bool] = MappingProxyType({}),
    max_rejected_share: float = 0.5,
    overwrite: bool = False,
    workers: int = 1,
    ranks: Ranks = ALONE,
    progress: bool = True,
) -> Manifest:
    """Encodes the items of `source` into a cache at `folder` and returns its manifest.

    `model` identifies the VAE and the text encoder of `adapter`, and `tiled` says whether the VAE encodes in tiles, so
    that a cache made otherwise is not taken for this one; so do the config keys of `encoding` and the name of what
    decodes the source, unless the cache is of a version that did not record them. A shard holds `shard_size` rows of
    the source, or about 128 MB. Items that cannot be used are skipped, counted and listed with the reason in
    `rejected.jsonl`.

    All processes of `ranks` call this with the same arguments, on one file system; each encodes its part of the shards
    and of the captions, and all return the same. A call with the same arguments, of any number of processes, goes on at
    the missing shards, or returns at once if all is done. `workers` threads of each process read files ahead.

    Raises ValueError if no item is usable, if more than `max_rejected_share` of the items is unusable, if another
    launch writes to `folder` or a run reads it, or if it holds another cache (`overwrite` removes that one);
    FileExistsError if it holds the user's files; OSError if the disk is too small; TimeoutError if another process is
    dead.
    """
    if min(batch_size, workers, 1 if shard_size is None else shard_size) < 1:
        raise ValueError(f"batch_size {batch_size}, shard_size {shard_size} and workers {workers} must be at least 1")
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    shape = adapter.latent_shape(source.height, source.width, source.frames)
    halves = {"pairs": 2, "prompts": 0}.get(source.form, 1)
    item_bytes = halves * 2 * (1 + flip) * math.prod(shape) * DTYPES[dtype].itemsize
    shard_size = shard_size or _rows_in_shard(item_bytes)
    settings = {
        "version": FINGERPRINT_VERSION,
        "kind": source.kind,
        "form": source.form,
        "model": model,
        "source": source.fingerprint(),
        "latent_shape": list(shape),
        "dtype": dtype,
        "flip": flip,
        "tiled": tiled,
        "shard_size": shard_size,
    }
    decoded = {} if source.decoding is None else {"decoding": source.decoding}
    told = settings | encoding | decoded
    target = CacheFolder(Path(folder), sha256_json(told), told)
    # what earlier versions recorded
    older = not overwrite and target.adopt([settings | encoding, settings])
    if older and decoded and progress and ranks.is_main:
        tqdm.write(
            f"{folder} was begun by a version that read some files otherwise, and goes on as it is; --overwrite true "
            "makes it anew"
        )
    with LaunchLock(target.parts) as lock, target.readers:
        finished = ranks.run_on_main(lambda: _claim(target, lock, overwrite))
        if finished is not None:
            if progress and ranks.is_main:
                tqdm.write(
                    "; ".join([f"{folder} is prepared already: {finished.items} items", *of_cache(Path(folder))])
                )
            return finished
        if not ranks.is_main:
            lock.join()
        items = ItemEncoder(
            adapter,
            source,
            shape=shape,
            batch_size=batch_size,
            dtype=DTYPES[dtype],
            flip=flip,
            workers=workers,
        )
        texts = TextEncoder(adapter, DTYPES[dtype])
        work = _Preparation(
            target,
            items,
            texts,
            shard_size=shard_size,
            item_bytes=item_bytes,
            max_rejected_share=max_rejected_share,
            ranks=ranks,
            progress=progress,
        )
        return work.run()


class _Preparation:
    """The work of one process on a claimed folder."""

    def __init__(
        self,
        target: CacheFolder,
        items: ItemEncoder,
        texts: TextEncoder,
        *,
        shard_size: int,
        item_bytes: int,
        max_rejected_share: float,
        ranks: Ranks,
        progress: bool,
    ):
        self.target, self.items, self.texts, self.source = target, items, texts, items.source
        self.item_bytes, self.max_rejected_share, self.ranks = item_bytes, max_rejected_share, ranks
        self.visible = progress and ranks.is_main
        more = "" if items.adapter.text_tokens is None else f", or raise model.text_tokens={items.adapter.text_tokens}"
        self.cure_for_cut = f"shorten them{more}"
        self.text_rows = min(shard_size, _rows_in_shard(texts.row_bytes))
        total = len(self.source)
        self.shards = [range(start, min(start + shard_size, total)) for start in range(0, total, shard_size)]

    def run(self) -> Manifest:
        missing = self.ranks.run_on_main(self._missing)
        with RankProgress(RunStore(self.ranks), self.ranks, self.visible) as progress:
            self._encode_items(missing, progress)
            text_rows: dict[str, int] = {"": 0}
            for note in self._notes():
                for item in note.items:
                    for caption in captions_of(item):
                        text_rows.setdefault(caption, len(text_rows))
            if self.ranks.is_main:
                count = self._check_enough()
                check_space(self.target.folder, self._text_bytes(len(text_rows)), "texts")
            texts = self._encode_texts(list(text_rows), progress)
            if self.ranks.is_main:
                self._finish(count, text_rows, texts)
            progress.wait((self.target.folder / "manifest.json").is_file)
        return Manifest.read(self.target.folder)

    def _missing(self) -> list[int]:
        """Numbers of the shards to encode. Raises OSError if the disk has no room for them and for the texts."""
        self.target.forget_damaged()
        missing = [number for number in range(len(self.shards)) if self.target.note(_items(number)) is None]
        latents = self.item_bytes * sum(len(self.shards[number]) for number in missing)
        # mostly one caption per item; counting them is worth while only if that many do not fit
        most = latents + self._text_bytes(len(self.source) + 1)
        if free_bytes(self.target.folder) >= most:
            return missing
        captions = self.source.distinct_captions()
        if captions is not None:
            check_space(self.target.folder, latents + self._text_bytes(captions + 1), "latents and texts")
            return missing
        check_space(self.target.folder, latents + self._text_bytes(1), "latents alone")
        tqdm.write(
            f"{self.target.folder}: the disk has room for the latents ({latents / 1e9:.1f} GB), perhaps not for the "
            f"texts: {self.texts.row_bytes / 1e6:.2f} MB for each distinct caption, {(most - latents) / 1e9:.1f} GB if "
            "no two are the same; how many there are is known only once all items are read"
        )
        return missing

    def _text_bytes(self, captions: int) -> int:
        """Bytes that the texts of `captions` captions still need at most, without those stored already."""
        stored = sum(path.stat().st_size for path in self.target.folder.glob("text-*.safetensors"))
        return max(0, captions * self.texts.row_bytes - stored)

    def _encode_items(self, missing: list[int], progress: RankProgress) -> None:
        mine = missing[self.ranks.rank :: self.ranks.world]
        done = len(self.source) - sum(len(self.shards[number]) for number in missing)
        unit = {"image": " images", "video": " clips"}[self.source.kind]
        progress.begin("encode", len(self.source), done, " prompts" if self.source.form == "prompts" else unit)
        before = _count(self._notes())
        positions = chain.from_iterable(self.shards[number] for number in mine)
        with closing(self.items.read_ahead(positions)) as items:
            for number in mine:
                shard = self.items.shard(islice(items, len(self.shards[number])), progress.add)
                note = self.target.save(
                    _items(number), shard.tensors, len(shard.items), shard.items, shard.rejected, times=shard.times
                )
                progress.add(0, **_count([note])._asdict())
                now = _Count(*(had + progress.total(name) for name, had in before._asdict().items()))
                progress.show(**{name: count for name, count in now._asdict().items() if name != "kept" and count})
                # if none was usable so far, going on costs little and shows whether any is
                if now.kept and now.rejected > self.max_rejected_share * len(self.source):
                    self.target.save_rejected(self._notes())
                    raise ValueError(self._too_many(now.rejected, len(self.source)))
        notes = [self.target.parts / f"{_items(number)}.json" for number in missing]
        progress.wait(lambda: all(note.is_file() for note in notes))

    def _check_enough(self) -> _Count:
        """Counts the usable items. Raises ValueError if there are none, or too few of the source."""
        count = _count(self._notes())
        self.target.save_rejected(self._notes())
        if not count.kept:
            raise ValueError(f"nothing is left of the {len(self.source)} items of the source: {self._first_reasons()}")
        wanted = len(self.source) - count.left_out
        if count.rejected > self.max_rejected_share * wanted:
            raise ValueError(self._too_many(count.rejected, wanted))
        return count

    def _encode_texts(self, captions: list[str], progress: RankProgress) -> list[str]:
        """Writes one row per caption, the empty one first; row numbers are positions in `captions`. Names of shards."""
        parts = {
            f"text-{number:05}": captions[start : start + self.text_rows]
            for number, start in enumerate(range(0, len(captions), self.text_rows))
        }
        there = {name for name in parts if self.target.note(name) is not None}
        progress.begin("captions", len(captions), sum(len(parts[name]) for name in there), " captions")
        # dealt out by number, for by now another process may have written some that this one takes for old
        for name in list(parts)[self.ranks.rank :: self.ranks.world]:
            if name not in there:
                tensors, cut = self.texts.shard(parts[name], progress.add)
                self.target.save(name, tensors, len(parts[name]), cut=as_json(cut))
        progress.wait(lambda: all((self.target.parts / f"{name}.json").is_file() for name in parts))
        return list(parts)

    def _cut(self, texts: list[str]) -> list[CutCaptions]:
        """The captions that each tokenizer cuts; the longest is named by the first file that has it."""
        cut = joined(chain.from_iterable(from_json(self.target.note(name).cut) for name in texts))
        longest = {one.longest for one in cut if one.cut}
        files: dict[str, str] = {}
        if longest:
            for item in chain.from_iterable(note.items for note in self._notes()):
                for caption in longest.intersection(captions_of(item)):
                    files.setdefault(caption, item["file"])
        return [replace(one, longest=files.get(one.longest, "")) for one in cut]

    def _finish(self, count: _Count, text_rows: dict[str, int], texts: list[str]) -> None:
        settings = self.target.settings
        cut = self._cut(texts)
        times = ClipTimes.of([clip for note in self._notes() for clip in note.times])
        manifest = Manifest(
            **{name: settings[name] for name in ("kind", "form", "model", "dtype")},
            latent_shape=self.items.shape,
            mirrored=self.items.flip,
            items=count.kept,
            rejected=count.rejected,
            left_out=count.left_out,
            captions=len(text_rows) - 1,
            text_lengths=self.texts.lengths,
            fingerprint=self.target.fingerprint,
            settings=settings,
            shards=tuple(note.stored for note in self._notes() if note.stored),
            texts=tuple(self.target.note(name).stored for name in texts),
            tables=(*self.target.save_items(self._notes(), text_rows), self.target.save_rejected(self._notes())),
            cut_captions=as_json(cut),
            clip_times=times and asdict(times),
        )
        self.target.finish(manifest)
        if self.visible:
            told = [f"{number} {what}" for number, what in ((count.rejected, "rejected"), (count.left_out, "left out"))
                    if number]  # fmt: skip
            tail = f"; {', '.join(told)}, see {self.target.folder / 'rejected.jsonl'}" if told else ""
            tqdm.write(f"{self.target.folder}: {count.kept} items with {manifest.captions} distinct captions{tail}")
            if several := sum("captions" in item for note in self._notes() for item in note.items):
                tqdm.write(f"items with several captions, of which each use draws one: {several} of {count.kept}")
            for line in cut_text(cut):
                tqdm.write(f"{line}; {self.cure_for_cut}")

    def _notes(self) -> Iterator[ShardNote]:
        """Notes about the finished item shards, in the order of the source."""
        numbers = range(len(self.shards))
        return (note for number in numbers if (note := self.target.note(_items(number))) is not None)

    def _first_reasons(self, count: int = 3) -> str:
        rejected = chain.from_iterable(note.rejected for note in self._notes())
        reasons = [f"{rejection['file']}: {rejection['reason']}" for rejection in islice(rejected, count)]
        return f"{'; '.join(reasons)}; all of them in {self.target.folder / 'rejected.jsonl'}"

    def _too_many(self, rejected: int, total: int) -> str:
        return (
            f"{rejected} of {total} items cannot be used, more than max_rejected_share {self.max_rejected_share} "
            f"allows; mend them or raise it: {self._first_reasons()}"
        )


def _claim(target: CacheFolder, lock: LaunchLock, overwrite: bool) -> Manifest | None:
    target.check_ours()
    lock.begin()
    return target.claim(overwrite)


def _count(notes: Iterable[ShardNote]) -> _Count:
    kept = rejected = left_out = 0
    for note in notes:
        without = sum("left_out" in line for line in note.rejected)
        kept, rejected, left_out = kept + len(note.items), rejected + len(note.rejected) - without, left_out + without
    return _Count(kept, rejected, left_out)


def _rows_in_shard(row_bytes: int) -> int:
    return max(1, min(4096, SHARD_BYTES // max(1, row_bytes)))


def _items(number: int) -> str:
    return f"items-{number:05}"
