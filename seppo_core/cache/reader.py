"""Winners as `prepare` left them on disk: latents and text embeddings in memory-mapped shards.

A cache folder holds

    manifest.json             written last: a folder without it is no cache
    items-00000.safetensors   mean, logvar (n, rows, c, [f], h, w); row 1 is the mirrored picture; "frame.KEY" (n, …);
                              of pairs also "loser.mean", "loser.logvar", "loser.frame.KEY"; of labelled items "label"
    text-00000.safetensors    a row per distinct caption and tensor of the condition; row 0 is the empty caption; of
                              "KEY" with "KEY.starts" the tokens of all rows one after the other, without padding
    index.safetensors         per item: caption, its row among the text; line, the byte where items.jsonl tells of it
    items.jsonl               id, file and caption of every item
    rejected.jsonl            file and reason of every row that could not be used, or that was to be left out
    parts/                    a note on every shard, by which `prepare` goes on and mends; training does without

Reading touches only the rows that are asked for, so that memory stays flat however large the set is.
"""

import json
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Bool
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pad

from seppo_core.config.method_specs import Form
from seppo_core.data.source import Kind
from seppo_core.models.adapter import Condition, Posterior

FORMAT = "seppo winner cache"
VERSION = 2
FRAME = "frame."
"""Prefix of what `Adapter.size_condition` gave, among an item shard's tensors."""
LOSER = "loser."
"""Prefix of what belongs to a pair's loser."""
STARTS = ".starts"
"""Behind the name of a text tensor whose padding is not stored: where each row's tokens begin, (n + 1,)."""
LABEL = "label"
"""The tensor that says whether an item is desirable, (n,) uint8."""


@dataclass(frozen=True)
class Stored:
    """One file of a cache; `rows` are items, captions or lines."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished cache holds. `settings` is all that decides its content, `fingerprint` their hash."""

    kind: Kind
    form: Form
    model: str
    latent_shape: tuple[int, ...]
    rows: int
    """Of latents per item: 1, or 2 with the mirrored picture."""
    dtype: str
    items: int
    rejected: int
    left_out: int
    """Items that nothing is wrong with and that were not asked for: ties, or those labelled bad."""
    captions: int
    """Distinct ones, the empty caption not counted."""
    text_lengths: dict[str, int]
    """Tensors of the text that are stored without their trailing zeros, and how many tokens they have with them."""
    fingerprint: str
    settings: dict
    shards: tuple[Stored, ...]
    texts: tuple[Stored, ...]
    tables: tuple[Stored, ...]

    def to_json(self) -> dict:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """FileNotFoundError where no finished cache is, ValueError where one is of another version or unreadable."""
        path = folder / "manifest.json"
        if not path.is_file():
            if (folder / "prepare.json").is_file():
                raise FileNotFoundError(f"the cache at {folder} is not finished; run the same `prepare` command again")
            raise FileNotFoundError(f"no cache at {folder}; run `prepare` first")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("format") != FORMAT:
                raise KeyError("format")
            version = found.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path} is not the manifest of a cache; run `prepare` into another folder") from error
        if version != VERSION:
            raise ValueError(
                f"{path} has format version {version}, this program reads {VERSION}; run `prepare` "
                "with --overwrite true"
            )
        try:
            files = {name: tuple(Stored(**stored) for stored in found[name]) for name in ("shards", "texts", "tables")}
            return cls(**found | files | {"latent_shape": tuple(found["latent_shape"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path} is damaged ({error}); run `prepare` with --overwrite true") from error


class WinnerCache:
    """The winners of a finished cache, by index. Float tensors come out as float32, whatever they are stored as."""

    def __init__(self, folder: str | Path):
        """FileNotFoundError where there is no finished cache; ValueError where its version or a file does not fit."""
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        for stored in self._files():
            path = self.folder / stored.file
            size = path.stat().st_size if path.is_file() else None
            if size != stored.bytes:
                found = "is missing" if size is None else f"has {size} bytes instead of {stored.bytes}"
                raise ValueError(f"the cache is damaged: {path} {found}; {_CURE}")
        self._items = _Shards(self.folder, self.manifest.shards)
        self._texts = _Shards(self.folder, self.manifest.texts)
        index = load_file(self.folder / "index.safetensors")
        self._caption, self._line = index["caption"], index["line"]

    def __reduce__(self):
        # mapped shards cannot travel to another process, the folder's name can
        return WinnerCache, (self.folder,)

    def __len__(self) -> int:
        return self.manifest.items

    @property
    def kind(self) -> Kind:
        return self.manifest.kind

    @property
    def form(self) -> Form:
        """Whether the items are winners alone, pairs of winner and loser, or labelled good or bad."""
        return self.manifest.form

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(c, [f], h, w) of one item."""
        return self.manifest.latent_shape

    @property
    def rows(self) -> int:
        """Of latents per item: 1, or 2 with the mirrored picture."""
        return self.manifest.rows

    @property
    def fingerprint(self) -> str:
        """The same for caches of the same winners, model and settings."""
        return self.manifest.fingerprint

    def posterior(self, indices: list[int], flipped: list[bool]) -> Posterior:
        """The VAE's posteriors, (b, c, [f], h, w) each; of the mirrored picture where `flipped`.

        ValueError where an item is to be mirrored and the cache was prepared without.
        """
        return self._posterior("", indices, flipped)

    def loser_posterior(self, indices: list[int], flipped: list[bool]) -> Posterior:
        """As `posterior`, of the losers; ValueError too where this is no cache of pairs."""
        self._need("pairs")
        return self._posterior(LOSER, indices, flipped)

    def condition(self, indices: list[int], dropped: list[bool]) -> Condition:
        """What the denoiser is told of the items, (b, …) each: the text, "" where `dropped`, and the framing."""
        return self._condition("", indices, dropped)

    def loser_condition(self, indices: list[int], dropped: list[bool]) -> Condition:
        """The same text with the losers' framing; ValueError where this is no cache of pairs."""
        self._need("pairs")
        return self._condition(LOSER, indices, dropped)

    def labels(self, indices: list[int]) -> Bool[Tensor, " b"]:
        """Whether each item is desirable; ValueError where the items have no labels."""
        self._need("labels")
        return torch.stack([self._items.row(LABEL, index) for index in indices]).bool()

    def unconditional(self) -> Condition:
        """The empty caption's text, (1, …) each; `condition` with all dropped adds the items' framing."""
        return self._text([0])

    def captions(self, indices: list[int]) -> list[str]:
        return [self._about(index)["caption"] for index in indices]

    def ids(self, indices: list[int]) -> list[str]:
        """Names of the items that stay the same when the data set grows or is reordered."""
        return [self._about(index)["id"] for index in indices]

    def _need(self, form: Form) -> None:
        if self.form != form:
            raise ValueError(f"the cache at {self.folder} holds {self.form}, not {form}; run `prepare` for {form}")

    def _posterior(self, prefix: str, indices: list[int], flipped: list[bool]) -> Posterior:
        if any(flipped) and self.manifest.rows < 2:
            raise ValueError(f"the cache at {self.folder} has no mirrored pictures; run `prepare` with flip: true")
        rows = list(zip(indices, flipped, strict=True))
        mean, logvar = (
            torch.stack([self._items.row(prefix + name, index)[int(flip)].float() for index, flip in rows])
            for name in ("mean", "logvar")
        )
        return Posterior(mean, logvar)

    def _condition(self, prefix: str, indices: list[int], dropped: list[bool]) -> Condition:
        captions = [0 if drop else int(self._caption[index]) for index, drop in zip(indices, dropped, strict=True)]
        framing = {
            name.removeprefix(prefix + FRAME): torch.stack([_float32(self._items.row(name, i)) for i in indices])
            for name in self._items.names()
            if name.startswith(prefix + FRAME)
        }
        return self._text(captions) | framing

    def _files(self) -> tuple[Stored, ...]:
        return self.manifest.shards + self.manifest.texts + self.manifest.tables

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


class _Shards:
    """Rows of tensors that are spread over several files; the files last used stay mapped."""

    def __init__(self, folder: Path, shards: tuple[Stored, ...], mapped: int = 64):
        self.folder, self.shards, self.mapped = folder, shards, mapped
        self.starts = [0, *accumulate(shard.rows for shard in shards)]
        self._open: OrderedDict[int, safe_open] = OrderedDict()

    def names(self) -> list[str]:
        return sorted(self._shard(0).keys())

    def row(self, name: str, row: int) -> Tensor:
        """One row of tensor `name`, its first axis gone."""
        number, row = self._place(row)
        return self._shard(number).get_slice(name)[row]

    def tokens(self, name: str, row: int, length: int) -> Tensor:
        """One row of a tensor that is stored without its trailing zeros: (length, d)."""
        number, row = self._place(row)
        shard = self._shard(number)
        start, stop = shard.get_slice(name + STARTS)[row : row + 2].tolist()
        used = shard.get_slice(name)[start:stop]
        return pad(used, (0, 0, 0, length - len(used)))

    def _place(self, row: int) -> tuple[int, int]:
        """The shard that holds `row`, and where."""
        if not 0 <= row < self.starts[-1]:
            raise IndexError(f"row {row} is not in 0..{self.starts[-1] - 1}")
        number = bisect_right(self.starts, row) - 1
        return number, row - self.starts[number]

    def _shard(self, number: int) -> safe_open:
        if number not in self._open:
            path = self.folder / self.shards[number].file
            try:
                self._open[number] = safe_open(path, framework="pt")
            except SafetensorError as error:
                raise ValueError(f"the cache is damaged: {path} cannot be read ({error}); {_CURE}") from error
            if len(self._open) > self.mapped:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


_CURE = (
    "copy it anew from where it was made, or run `verify` with --mend true and then `prepare`, which encodes no more "
    "than that"
)


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
