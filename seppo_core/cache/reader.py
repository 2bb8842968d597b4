"""Winners as `prepare` left them on disk: latents and text embeddings in memory-mapped shards.

Reading touches only the rows that are asked for, so that memory stays flat however large the set is. The files are
described in `manifest.py`.
"""

import json
from bisect import bisect_right
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import torch
from jaxtyping import Bool
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pad

from seppo_core.cache.manifest import (
    CAPTIONS,
    CONDITION,
    LABEL,
    NOISE,
    STARTS,
    Manifest,
    StoredFile,
    captions_of,
    stored_names,
)
from seppo_core.config.method_specs import Supervision
from seppo_core.data.source import Kind
from seppo_core.io.remembered import THREADS
from seppo_core.models.adapter import Condition, Posterior
from seppo_core.models.finite import is_finite


class WinnerCache:
    """The items of a finished cache by index. Float tensors are returned as float32, whatever they are stored as."""

    def __init__(self, folder: str | Path):
        """Raises FileNotFoundError if there is no finished cache, ValueError if it is damaged or of unknown version."""
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        for stored in self.manifest.files:
            _refuse(self.folder / stored.file, stored.size_problem(self.folder))
        # of shards the content is checked when the first row of one is asked for
        for stored in self.manifest.tables:
            _refuse(self.folder / stored.file, stored.content_problem(self.folder))
        self._items = _Shards(self.folder, self.manifest.shards, self.manifest.views)
        self._texts = _Shards(self.folder, self.manifest.texts)
        index = load_file(self.folder / "index.safetensors")
        self._line = index["line"]
        # where no item has several captions there are no tensors of them
        self._captions = index.get(CAPTIONS, index["caption"])
        self._starts = index.get(CAPTIONS + STARTS, torch.arange(len(self._line) + 1))
        rows, lines = self.manifest.captions + 1, self._bytes_of("items.jsonl")
        for column, end in ((self._captions, rows), (self._line, lines), (self._starts, len(self._captions) + 1)):
            fits = not len(column) or (column.min() >= 0 and column.max() < end)
            _refuse(self.folder / "index.safetensors", None if fits else "does not fit the rest")

    def _bytes_of(self, table: str) -> int:
        return next(stored.bytes for stored in self.manifest.tables if stored.file == table)

    def check(self) -> None:
        """Raises ValueError if any file is not as it was written; those that were not read yet are read in full."""
        files = self.manifest.files
        with ThreadPoolExecutor(THREADS) as pool:
            problems = list(pool.map(lambda stored: stored.content_problem(self.folder), files))
        for stored, problem in zip(files, problems, strict=True):
            _refuse(self.folder / stored.file, problem)

    def __reduce__(self):
        # mapped shards cannot travel to another process, the folder's name can
        return WinnerCache, (self.folder,)

    def __len__(self) -> int:
        return self.manifest.items

    @property
    def kind(self) -> Kind:
        return self.manifest.kind

    @property
    def form(self) -> Supervision:
        """Whether the items are winners alone, pairs of winner and loser, labelled good or bad, or captions alone."""
        return self.manifest.form

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(c, [f], h, w) of one item."""
        return self.manifest.latent_shape

    @property
    def fingerprint(self) -> str:
        """A hash of winners, model and settings."""
        return self.manifest.fingerprint

    def posterior(self, indices: list[int], flipped: list[bool], view: str | None = None) -> Posterior:
        """The VAE's posteriors of `view` (the first one by default), (b, c, [f], h, w) each; mirrored if `flipped`.

        Raises ValueError if the cache has no such view, or no mirrored pictures but one is asked for.
        """
        view = self._view(view)
        if self.form == "prompts":
            raise ValueError(f"the cache at {self.folder} holds captions alone (data.supervision=prompts), no latents")
        if any(flipped) and not self.manifest.mirrored:
            raise ValueError(f"the cache at {self.folder} has no mirrored pictures; run `prepare` with data.flip=true")
        wanted = list(zip(indices, flipped, strict=True))
        mean, logvar = (
            torch.stack([self._items.row(f"{view}.{name}", index)[int(flip)].float() for index, flip in wanted])
            for name in ("mean", "logvar")
        )
        for index, *values in zip(indices, mean, logvar, strict=True):
            if not all(map(is_finite, values)):
                raise ValueError(self._not_finite("latents", index))
        return Posterior(mean, logvar)

    def caption_count(self, index: int) -> int:
        """Number of captions that an item has; `condition` takes any of them."""
        return int(self._starts[index + 1] - self._starts[index])

    def condition(
        self, indices: list[int], dropped: list[bool], view: str | None = None, chosen: list[int] | None = None
    ) -> Condition:
        """The denoiser's condition, (b, …) each: the text ("" if `dropped`) and what `view` adds, such as its crop.

        `chosen` says which of its captions is each item's, by default the first. Raises ValueError if the cache has no
        such view.
        """
        prefix = self._view(view) + CONDITION
        chosen = [0] * len(indices) if chosen is None else chosen
        captions = [
            0 if drop else int(self._captions[int(self._starts[index]) + choice])
            for index, drop, choice in zip(indices, dropped, chosen, strict=True)
        ]
        own = {
            name.removeprefix(prefix): torch.stack([_float32(self._items.row(name, index)) for index in indices])
            for name in self._items.names()
            if name.startswith(prefix)
        }
        text = self._text(captions)
        for place, index in enumerate(indices):
            if not all(is_finite(tensor[place]) for tensor in text.values()):
                raise ValueError(self._not_finite("text", index))
        return text | own

    def check_captions(self, expected: Condition) -> None:
        """ValueError unless captions have the shapes of `expected` (`Adapter.caption_shapes`), such as its tokens."""
        found = self.unconditional()
        for name in expected:
            there, here = (tuple(one[name].shape[1:]) if name in one else None for one in (found, expected))
            if there != here:
                raise ValueError(
                    f"{self.folder} holds captions whose {name} is {_sized(there)}, this model's is {_sized(here)} "
                    "(tokens × width); set model.text_tokens as it was, or prepare into another data.cache"
                )

    def labels(self, indices: list[int]) -> Bool[Tensor, " b"]:
        """Whether each item is desirable; raises ValueError if the items have no labels."""
        if self.form != "labels":
            raise ValueError(
                f"the cache at {self.folder} holds {self.form}; run `prepare` with data.supervision=labels"
            )
        return torch.stack([self._items.row(LABEL, index) for index in indices]).bool()

    def unconditional(self) -> Condition:
        """The empty caption's text, (1, …) each; `condition` with all dropped adds the items' crop."""
        return self._text([0])

    def captions(self, indices: list[int], chosen: list[int] | None = None) -> list[str]:
        """The captions, of items with several the `chosen` ones, by default the first."""
        chosen = [0] * len(indices) if chosen is None else chosen
        return [captions_of(self._about(index))[choice] for index, choice in zip(indices, chosen, strict=True)]

    def noise(self, index: int, view: str | None = None) -> dict | None:
        """Of an item's view that `rank` drew: `key` of its noise, and its `size` (height, width, frames); else None."""
        return self._about(index).get(NOISE, {}).get(self._view(view))

    def ids(self, indices: list[int]) -> list[str]:
        """Names of the items that stay the same when the data set grows or is reordered."""
        return [self._about(index)["id"] for index in indices]

    def _not_finite(self, what: str, index: int) -> str:
        about = self._about(index)
        return (
            f"the cache at {self.folder} holds {what} that are not finite, of {about['file']} (caption "
            f"{about['caption'][:60]!r}), which no loss can be made of; run `prepare` with --overwrite true, with "
            "model.dtype bfloat16 or float32 if it was float16"
        )

    def _view(self, view: str | None) -> str:
        if view is None:
            return self.manifest.views[0]
        if view not in self.manifest.views:
            raise ValueError(
                f"the cache at {self.folder} holds {self.form}, which have no {view}; run `prepare` with "
                "data.supervision=pairs"
            )
        return view

    def _text(self, rows: list[int]) -> Condition:
        lengths = self.manifest.text_lengths
        return {
            name: torch.stack([_float32(self._texts.tokens(name, row, lengths[name])) for row in rows])
            if name in lengths
            else torch.stack([_float32(self._texts.row(name, row)) for row in rows])
            for name in self._texts.names()
            if not name.endswith(STARTS)
        }

    def _about(self, index: int) -> dict[str, str]:
        with (self.folder / "items.jsonl").open("rb") as file:
            file.seek(int(self._line[index]))
            return json.loads(file.readline())


class _Shard(NamedTuple):
    file: safe_open
    names: dict[str, str]
    """Names of its tensors, each with the name it is stored under."""

    def slice(self, name: str):
        """A lazy view of tensor `name`: indexing it reads only that part."""
        return self.file.get_slice(self.names[name])


class _Shards:
    """Rows of tensors that are spread over several files; the files last used stay mapped."""

    def __init__(
        self, folder: Path, shards: tuple[StoredFile, ...], views: tuple[str, ...] | None = None, mapped: int = 64
    ):
        self.folder, self.shards, self.views, self.mapped = folder, shards, views, mapped
        self.starts = [0, *accumulate(shard.count for shard in shards)]
        self._open: OrderedDict[int, _Shard] = OrderedDict()
        self._lock = Lock()

    def names(self) -> list[str]:
        return sorted(self._shard(0).names)

    def row(self, name: str, row: int) -> Tensor:
        """One row of tensor `name`, without its first axis."""
        shard, row = self._place(row)
        return shard.slice(name)[row]

    def tokens(self, name: str, row: int, length: int) -> Tensor:
        """One row of a tensor that is stored without its trailing zeros: (length, d)."""
        shard, row = self._place(row)
        start, stop = shard.slice(name + STARTS)[row : row + 2].tolist()
        used = shard.slice(name)[start:stop]
        return pad(used, (0, 0, 0, length - len(used)))

    def _place(self, row: int) -> tuple[_Shard, int]:
        """The shard that holds `row`, and the row's number in it."""
        if not 0 <= row < self.starts[-1]:
            raise IndexError(f"row {row} is not in 0..{self.starts[-1] - 1}")
        number = bisect_right(self.starts, row) - 1
        return self._shard(number), row - self.starts[number]

    def _shard(self, number: int) -> _Shard:
        # batches are made ahead by a thread, while held-out items are measured
        with self._lock:
            return self._opened(number)

    def _opened(self, number: int) -> _Shard:
        if number not in self._open:
            path = self.folder / self.shards[number].file
            _refuse(path, self.shards[number].content_problem(self.folder))
            try:
                file = safe_open(path, framework="pt")
            except SafetensorError as error:
                raise ValueError(f"the cache is damaged: {path} cannot be read ({error}); {_CURE}") from error
            keys = list(file.keys())
            self._open[number] = _Shard(file, stored_names(keys, self.views))
            if len(self._open) > self.mapped:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


_CURE = (
    "copy it anew from where it was made, or run `verify` with --mend true and then `prepare`, which encodes no more "
    "than that"
)


def _refuse(path: Path, problem: str | None) -> None:
    if problem is not None:
        raise ValueError(f"the cache is damaged: {path} {problem}; {_CURE}")


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _sized(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " × ".join(map(str, shape))
