"""Features on disk, one file per sample, and a set of them with the clip that each row belongs to."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
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

    `clip` numbers the clip of each row, `ids` names the clips. Rows of different extractors never meet: `column` and
    `fingerprint` tell them apart.
    """

    rows: Float[Tensor, "n d"]
    clip: Int[Tensor, " n"]
    ids: tuple[str, ...]
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
        return cls(rows, clip, tuple(features), column, fingerprint)


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


def frames_key(frames: Tensor) -> str:
    """A key for frames that have no file of their own, or for their features: SHA-256 of type, shape and values."""
    content = frames.contiguous().cpu()
    digest = hashlib.sha256(f"{content.dtype} {tuple(content.shape)}".encode())
    digest.update(content.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
