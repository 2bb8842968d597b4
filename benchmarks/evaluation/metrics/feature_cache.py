"""Features on disk, one file per sample, and a set of them with the clip that each row belongs to."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seppo_core.io.atomic import save_tensors
from seppo_core.judging.metric import FeatureExtractor
from seppo_core.judging.video_pixels import Frames

ROWS = "rows"


@dataclass(frozen=True)
class FeatureSet:
    """Rows of features of a set of clips (or pictures, each a clip of one frame).

    `clip` numbers the clip of each row, `ids` names the clips, `counts` says how often each clip occurs: once, except
    in a bootstrap draw. Rows of different extractors never meet: `column` and `fingerprint` tell them apart.
    """

    rows: Float[Tensor, "n d"]
    clip: Int[Tensor, " n"]
    ids: tuple[str, ...]
    counts: Float[Tensor, " clips"]
    column: str
    fingerprint: str

    @classmethod
    def of(cls, features: Mapping[str, Float[Tensor, "n d"]], column: str, fingerprint: str) -> "FeatureSet":
        """From rows per clip id. Raises ValueError for an empty set or rows of different widths."""
        if not features:
            raise ValueError("a set without clips has no features")
        if len(widths := {rows.shape[1] for rows in features.values()}) > 1:
            raise ValueError(f"rows of different widths {sorted(widths)}; take them from one extractor")
        clip = torch.cat([torch.full((len(rows),), number) for number, rows in enumerate(features.values())])
        rows = torch.cat(list(features.values()))
        return cls(rows, clip, tuple(features), torch.ones(len(features)), column, fingerprint)

    @property
    def row_counts(self) -> Float[Tensor, " n"]:
        return self.counts[self.clip]

    def drawn(self, counts: Float[Tensor, " clips"]) -> "FeatureSet":
        """This set with each clip occurring `counts` times."""
        return replace(self, counts=counts)

    def save(self, path: Path) -> None:
        """One safetensors file; ids and fingerprint go into its header."""
        tensors = {ROWS: self.rows, "clip": self.clip, "counts": self.counts}
        header = {"column": self.column, "fingerprint": self.fingerprint}
        save_tensors(path, tensors, header | {f"id {number}": name for number, name in enumerate(self.ids)})

    @classmethod
    def load(cls, path: Path) -> "FeatureSet":
        with safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in (ROWS, "clip", "counts")}
        ids = tuple(header[f"id {number}"] for number in range(len(tensors["counts"])))
        return cls(tensors[ROWS], tensors["clip"], ids, tensors["counts"], header["column"], header["fingerprint"])


class FeatureCache:
    """Features of one extractor under `folder/<column>@<fingerprint>/<key>.safetensors`; each is computed once.

    Keys are hashes of samples. An extractor with other weights or options has another folder, a file is there whole or
    not at all, and one that is damaged is computed again: an interrupted run just goes on.
    """

    def __init__(self, folder: Path, extractor: FeatureExtractor):
        self.extractor = extractor
        column = re.sub(r"[^\w.,=-]+", "_", extractor.column).strip("_")
        self.folder = folder / f"{column}@{extractor.fingerprint()[:8]}"

    def path(self, key: str) -> Path:
        """ValueError for a key that is not a plain name: keys become file names."""
        if not re.fullmatch(r"[\w-]{1,200}", key):
            raise ValueError(f"key {key!r} is not a hash; use letters, digits, - and _")
        return self.folder / f"{key}.safetensors"

    def get(self, key: str) -> Float[Tensor, "n d"] | None:
        """The stored features, or None if no complete file is stored."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                header, rows = file.metadata() or {}, file.get_tensor(ROWS)
            same = header.get("fingerprint") == self.extractor.fingerprint()
            # files of before have no hash of their rows
            return rows if same and header.get("sha256", frames_key(rows)) == frames_key(rows) else None
        except SafetensorError:
            return None

    def features(self, key: str, frames: Frames) -> Float[Tensor, "n d"]:
        """From the cache, else from the extractor and into the cache."""
        if (rows := self.get(key)) is None:
            rows = self.extractor.features(frames)
            header = {"column": self.extractor.column, "fingerprint": self.extractor.fingerprint()}
            save_tensors(self.path(key), {ROWS: rows}, header | {"sha256": frames_key(rows)})
        return rows

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those that are still to be computed."""
        return [key for key in keys if self.get(key) is None]

    def collect(self, keys: Mapping[str, str]) -> FeatureSet:
        """The set of clips `{id: key}`; FileNotFoundError that names the first of those that are not there."""
        if absent := self.missing(list(keys.values())):
            raise FileNotFoundError(
                f"{len(absent)} clips have no {self.extractor.column} features yet, e.g. {absent[0]}"
            )
        stored = {name: self.get(key) for name, key in keys.items()}
        found = {name: rows for name, rows in stored.items() if rows is not None}
        return FeatureSet.of(found, self.extractor.column, self.extractor.fingerprint())


def frames_key(frames: Tensor) -> str:
    """A key for frames that have no file of their own, or for their features: SHA-256 of type, shape and values."""
    content = frames.contiguous().cpu()
    digest = hashlib.sha256(f"{content.dtype} {tuple(content.shape)}".encode())
    digest.update(content.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
