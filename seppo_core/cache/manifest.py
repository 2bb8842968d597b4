"""What a cache folder holds: its files, their hashes and the settings that decide its content.

    manifest.json             written last: a folder without it is not a cache
    items-00000.safetensors   "VIEW.mean", "VIEW.logvar" (n, m, c, [f], h, w), m = 2 if the mirrored picture follows the
                              picture, else 1; "VIEW.condition.KEY" (n, …); "label" (n,) for labelled items. VIEW is
                              "winner", for pairs also "loser", for labelled items "item"; for captions alone
                              "prompt", which has no latents
    text-00000.safetensors    one row per distinct caption and tensor of the condition; row 0 is the empty caption. For
                              "KEY" with "KEY.starts": the tokens of all rows one after the other, without padding
    index.safetensors         per item: caption, its row in the text shards; line, the byte in items.jsonl. If any has
                              several captions: "captions", the rows of all, and "captions.starts" (n + 1,)
    items.jsonl               id, file and caption of every item; "captions" if it has several; "noise" of samples that
                              `rank` drew
    rejected.jsonl            file and reason of every item that could not be used or was excluded on request
    parts/                    a note about every shard, with which `prepare` continues and mends; training ignores it

Version 2 differs in names: in its shards the first view has no prefix, and "condition" is called "frame"; its manifest
says `rows` (1 or 2) for `mirrored` and, in a file's record, for `count`.
"""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from seppo_core.config.method_specs import Supervision
from seppo_core.data.source import VIEWS, Kind
from seppo_core.io.checked_json import read_checked
from seppo_core.io.remembered import remembered_sha256

FORMAT = "seppo winner cache"
VERSION = 3
READABLE = (2, VERSION)
FINGERPRINT_VERSION = 2
"""The `version` among a cache's settings, and so in its fingerprint. It changes when the content of a cache does, not
when only names do: a run goes on with a cache of an earlier format."""
CONDITION = ".condition."
"""Between a view's name and the key of a tensor that `Adapter.size_condition` gave."""
STARTS = ".starts"
"""Suffix of a text tensor whose padding is not stored: where each row's tokens begin, (n + 1,)."""
CAPTIONS = "captions"
"""Tensor of the index with the text rows of all captions, one item's after the other's."""
NOISE = "noise"
"""In a line of items.jsonl: by view, the key of the noise that `rank` drew it from, and its size."""
LABEL = "label"
"""Tensor that says whether an item is desirable, (n,) uint8."""


@dataclass(frozen=True)
class StoredFile:
    """One file of a cache; `count` is its number of items, captions or lines."""

    file: str
    count: int
    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, stored: dict) -> "StoredFile":
        """Reads the record of any readable version; raises TypeError or KeyError if it is damaged."""
        count = stored["rows"] if "rows" in stored else stored["count"]
        return cls(stored["file"], count, stored["bytes"], stored["sha256"])

    def size_problem(self, folder: Path) -> str | None:
        """Describes a fault that the file's size shows; None if there is none."""
        path = folder / self.file
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        return None if size == self.bytes else f"has {size} bytes instead of {self.bytes}"

    def content_problem(self, folder: Path) -> str | None:
        """Describes a fault of the file's size or content, which is read in full if it was not before."""
        if (problem := self.size_problem(folder)) is not None:
            return problem
        same = remembered_sha256(folder / self.file) == self.sha256
        return None if same else "has another content than was written"


@dataclass(frozen=True)
class Manifest:
    """What a finished cache holds. `settings` decides its content, `fingerprint` is the hash of `settings`."""

    kind: Kind
    form: Supervision
    model: str
    latent_shape: tuple[int, ...]
    """(c, [f], h, w) of one item."""
    mirrored: bool
    """Whether every item has the latents of the mirrored picture too."""
    dtype: str
    items: int
    rejected: int
    left_out: int
    """Valid items that were excluded on request: ties, or items labelled undesirable."""
    captions: int
    """Distinct captions, without the empty one."""
    text_lengths: dict[str, int]
    """Number of tokens, padding included, of every text tensor whose trailing zeros are not stored."""
    fingerprint: str
    settings: dict
    shards: tuple[StoredFile, ...]
    texts: tuple[StoredFile, ...]
    tables: tuple[StoredFile, ...]
    tokenizer: str | None = None
    """Hash of the tokenizer that read the captions; None if it was not recorded."""
    buckets: tuple[tuple[int, ...], ...] | None = None
    """Latent shapes that the items' `bucket` numbers refer to; None if all items have `latent_shape`."""
    cut_captions: list[dict] | None = None
    """How many captions each tokenizer cuts (`cut_captions.CutCaptions`); None if they were not counted."""
    clip_times: dict | None = None
    """What clips span (`clip_times.ClipTimes`); None for pictures, and if it was not noted."""

    @property
    def views(self) -> tuple[str, ...]:
        """Names of an item's views: ("winner",), ("winner", "loser") for pairs, ("item",) for labelled items, and
        ("prompt",) for captions alone."""
        return VIEWS[self.form]

    @property
    def files(self) -> tuple[StoredFile, ...]:
        return self.shards + self.texts + self.tables

    def to_json(self) -> dict:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads the manifest of a finished cache; warns (FutureWarning) if it is of an earlier version.

        Raises FileNotFoundError if there is no finished cache, ValueError if it is of an unknown version or damaged.
        """
        path = folder / "manifest.json"
        if not path.is_file():
            if (folder / "prepare.json").is_file():
                raise FileNotFoundError(f"the cache at {folder} is not finished; run the same `prepare` command again")
            raise FileNotFoundError(f"no cache at {folder}; run `prepare` first")
        try:
            found = read_checked(path)
            if found.pop("format") != FORMAT:
                raise KeyError("format")
            version = found.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged or not the manifest of a cache ({error}); run `prepare` again, which makes it "
                "anew, or into another folder"
            ) from error
        if version not in READABLE:
            raise ValueError(
                f"{path} has format version {version}, this program reads {', '.join(map(str, READABLE))}; run "
                "`prepare` with --overwrite true"
            )
        try:
            if version == 2:
                found["mirrored"] = found.pop("rows") == 2
            for name in ("shards", "texts", "tables"):
                found[name] = tuple(StoredFile.from_json(stored) for stored in found[name])
            found["latent_shape"] = tuple(found["latent_shape"])
            if found.get("buckets") is not None:
                found["buckets"] = tuple(tuple(shape) for shape in found["buckets"])
            manifest = cls(**found)
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path} is damaged ({error}); run `prepare` with --overwrite true") from error
        if version != VERSION:
            warnings.warn(
                f"{folder} is a cache of format {version}; it is read as it is, `prepare` now writes format {VERSION}",
                FutureWarning,
                stacklevel=2,
            )
        return manifest


def captions_of(item: dict) -> list[str]:
    """The captions of a line of items.jsonl."""
    return item.get("captions") or [item["caption"]]


def stored_names(keys: list[str], views: tuple[str, ...] | None) -> dict[str, str]:
    """The names of a shard's tensors, each with the name it is stored under; they differ in item shards of version 2.

    `views` are those of the items, None for a text shard.
    """
    if views is None or "mean" not in keys:
        return {key: key for key in keys}
    names = {}
    for key in keys:
        view, rest = ("loser", key.removeprefix("loser.")) if key.startswith("loser.") else (views[0], key)
        names[LABEL if key == LABEL else f"{view}.{rest}".replace(".frame.", CONDITION, 1)] = key
    return names
