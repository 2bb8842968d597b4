"""The data: where they lie, what of them is learnt from, and how they are encoded.

Without torch, like all of the schema.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from seppo_core.config.method_specs import Supervision
from seppo_core.config.validators import above, at_least, share


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data: captioned pictures or clips, encoded once by `prepare`."""

    source: str
    """Folder with metadata.jsonl or metadata.csv, a table, parquet files, webdataset tars, or an id on the hub."""
    cache: str
    """Folder that `prepare` writes latents and text embeddings to and `train` reads."""
    height: int
    """In pixels, after resize and centre crop."""
    width: int
    """In pixels, after resize and centre crop."""
    format: Literal["auto", "folder", "parquet", "webdataset", "hub"] = "auto"
    """What source is; auto looks. A data set of the Hugging Face hub needs hub."""
    supervision: Supervision = "winners"
    """What is cached: winners, pairs (dpo, mapo), or items labelled good or bad (kto). Pairs serve as any of these."""
    pick: Literal["winner", "random"] = "winner"
    """Of pairs read as winners: the one that won, or either, drawn by the seed."""
    root: str | None = None
    """Folder that the file names of a table are relative to; null is the table's own."""
    caption_column: str | None = None
    """Column, or key of a tar's json, with the caption; null looks for caption, text and prompt."""
    first_column: str | None = None
    """Column of files or their bytes; of pairs the winner, or with a label the first. Null looks for the usual names:
    file_name, image, video, videoid, jpg_0 with jpg_1, file_name_0 with file_name_1, file_name with loser_file_name."""
    second_column: str | None = None
    """Of pairs: column of the loser, or with a label of the second."""
    label_column: str | None = None
    """Of pairs: 1 where the first won, 0 the second, 0.5 a tie. Otherwise: whether an item is good."""
    split: str = "train"
    """Of a data set on the hub."""
    subset: str | None = None
    """Of a data set on the hub that has several."""
    revision: str | None = None
    """Branch, tag or commit of a data set on the hub."""
    streaming: bool = True
    """Read a data set of the hub where it lies, as parquet; false fetches it whole first."""
    expected_rows: int | None = None
    """`prepare` stops where source has another number of rows, ties among them."""
    expected_sha256: str | None = None
    """`prepare` stops where source is of another hash: of one file its own, else `sha256sum *.parquet | sha256sum`."""
    max_file_mb: float | None = None
    """Larger files, or members of an archive, are rejected unread; null is 256 for pictures, 4096 for clips."""
    workers: int = 4
    """Threads that read and decode ahead while `prepare` encodes, in each process."""
    prefetch: int = 2
    """Micro-batches that a thread makes ahead while `train` computes; 0 makes each when it is needed."""
    flip: bool = False
    """Cache a mirrored copy too and pick one of the two at every use."""
    caption_dropout: float = 0.1
    """Share of captions replaced by the empty one, the same for a winner and its reference sample."""
    posterior: Literal["draw", "mode"] = "draw"
    """Whether a winner's latents are drawn from the VAE's posterior at every use, or are always its mode."""
    encode_batch_size: int = 8
    """Files that `prepare` encodes at once in each process; halved by itself where they do not fit the device, and what
    does not fit alone is encoded on the CPU."""
    vae_tiling: bool = False
    """Encode in overlapping tiles, for items that fit the device no other way; latents differ a little from untiled
    ones, and samples that are encoded again are tiled as the cache's winners were."""
    cache_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the cached tensors."""
    max_rejected_share: float = 0.5
    """`prepare` fails where more than this share of the files is unusable; rejected.jsonl lists them with reasons."""

    frames: ClassVar[int] = 1
    """Of an item; clips have a field of this name instead."""

    def __post_init__(self):
        at_least("data", self, 1, "height", "width", "encode_batch_size", "expected_rows", "workers")
        above("data", self, 0, "max_file_mb")
        at_least("data", self, 0, "prefetch")
        share("data", self, "caption_dropout", "max_rejected_share")
        if self.pick == "random" and self.supervision != "winners":
            raise ValueError(f"data.pick=random is for data.supervision=winners, not {self.supervision}; leave it out")
        if self.expected_sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.expected_sha256):
            raise ValueError(
                f"data.expected_sha256={self.expected_sha256[:70]} is no SHA-256; those have 64 hex digits"
            )
        if self.second_column is not None and self.first_column is None:
            raise ValueError(f"data.second_column={self.second_column} needs data.first_column too")
