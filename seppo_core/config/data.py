"""The section `data`: where the data are, what is learnt from them, and how they are encoded. Imports no torch."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from seppo_core.config.method_specs import Supervision
from seppo_core.config.validators import above, at_least, share


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data: captioned pictures or clips, which `prepare` encodes once."""

    source: str
    """Folder with metadata.jsonl or metadata.csv, or with a text file beside each picture or clip; a table, parquet
    files, webdataset tars, or a Hub dataset id."""
    cache: str
    """Folder that `prepare` writes latents and text embeddings to and `train` reads."""
    height: int
    """Height in pixels, after resize and centre crop."""
    width: int
    """Width in pixels, after resize and centre crop."""
    format: Literal["auto", "folder", "parquet", "webdataset", "hub"] = "auto"
    """Format of source; auto finds it out. A dataset of the Hugging Face Hub needs hub."""
    supervision: Supervision = "winners"
    """What is cached: winners, pairs of winner and loser, items labelled good or bad (labels), or captions alone
    (prompts) for loop.judge, which source may also be a text file of, one a line. A source of pairs can be read as any
    of these."""
    pick: Literal["winner", "random"] = "winner"
    """Item of a pair that is read as the winner: the one that won, or a random one, drawn by the seed."""
    root: str | None = None
    """Folder that file names in a table are relative to; null is the folder of the table, or the one below it that has
    them."""
    caption_column: str | None = None
    """Column with the caption, or key in the JSON files of a tar; null looks for caption, text and prompt. Of
    several captions, as a list or in several rows of one file, one is drawn at each use."""
    first_column: str | None = None
    """Column with file names or bytes. For pairs it is the column of the winner or, with a label column, of the first
    item. Null looks for the usual names: file_name, image, video, videoid, jpg_0 with jpg_1, file_name_0 with
    file_name_1, file_name with loser_file_name."""
    second_column: str | None = None
    """Column of the loser of a pair or, with a label column, of the second item."""
    label_column: str | None = None
    """Column with the label. For pairs it is 1 if the first item won, 0 if the second did, and 0.5 for a tie; otherwise
    it says whether an item is good."""
    split: str = "train"
    """Split of a Hub dataset."""
    subset: str | None = None
    """Name of the configuration (subset) of a Hub dataset that has more than one."""
    revision: str | None = None
    """Branch, tag or commit of a Hub dataset."""
    streaming: bool = True
    """Read a Hub dataset over the network as parquet; false downloads all of it first."""
    expected_rows: int | None = None
    """Number of rows that source must have, ties included; `prepare` stops if it has another number."""
    expected_sha256: str | None = None
    """SHA-256 that source must have; `prepare` stops if it has another. For one file it is the hash of the file, for
    several that of `sha256sum *.parquet | sha256sum`."""
    max_file_mb: float | None = None
    """Largest size of a file or archive member in MB; larger ones are rejected unread. Null is 256 for pictures and
    4096 for clips."""
    workers: int = 4
    """Number of threads in each process that read and decode ahead while `prepare` encodes."""
    prefetch: int = 2
    """Number of micro-batches that a thread makes ahead while `train` computes; 0 makes each when it is needed."""
    flip: bool = False
    """Cache a mirrored copy of every item too, and pick one of the two at every use."""
    caption_dropout: float = 0.1
    """Share of captions that are replaced by the empty one, for a winner and its reference sample alike. It is encoded
    as the base's pipeline encodes a missing negative prompt: as zeros if its config says force_zeros_for_empty_prompt
    (SDXL's does; Diffusion-DPO's script encodes "" there all the same), else as the text ""."""
    posterior: Literal["draw", "mode"] = "draw"
    """Whether the latents of a winner are drawn from the posterior of the VAE at every use, or are always its mode."""
    validation: float = 0.0
    """Share of the prepared items, e.g. 0.05, that is held out from training and measured every loop.validate_every
    updates."""
    validation_cache: str | None = None
    """Folder of another prepared cache to measure instead: `prepare` it with the data.source and this as data.cache."""
    encode_batch_size: int = 8
    """Number of files that `prepare` encodes at once in each process. It is halved automatically if they do not fit the
    device, and a file that does not fit alone is encoded on the CPU."""
    vae_tiling: bool = False
    """Encode in overlapping tiles, for items that do not fit the device otherwise. Latents differ a little from untiled
    ones; samples that are encoded again are tiled as the winners in the cache were."""
    cache_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the cached tensors."""
    max_rejected_share: float = 0.5
    """Share of unusable files above which `prepare` fails; rejected.jsonl lists them with reasons."""

    frames: ClassVar[int] = 1
    """Number of frames of an item; clips have a field of this name instead."""

    def __post_init__(self):
        at_least("data", self, 1, "height", "width", "encode_batch_size", "expected_rows", "workers")
        above("data", self, 0, "max_file_mb")
        at_least("data", self, 0, "prefetch")
        share("data", self, "caption_dropout", "max_rejected_share", "validation")
        if self.validation and self.validation_cache is not None:
            raise ValueError(
                f"data.validation={self.validation} and data.validation_cache={self.validation_cache} are both given; "
                "use one of them"
            )
        if self.pick == "random" and self.supervision != "winners":
            raise ValueError(f"data.pick=random is for data.supervision=winners, not {self.supervision}; leave it out")
        if self.supervision == "prompts":
            for name in ("flip", "validation", "validation_cache"):
                if value := vars(self)[name]:
                    raise ValueError(
                        f"data.{name}={str(value).lower()} needs pictures or clips, and data.supervision=prompts has "
                        "captions alone; leave it out"
                    )
        if self.expected_sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.expected_sha256):
            raise ValueError(
                f"data.expected_sha256={self.expected_sha256[:70]} is not a SHA-256, which has 64 hexadecimal digits"
            )
        if self.second_column is not None and self.first_column is None:
            raise ValueError(f"data.second_column={self.second_column} needs data.first_column too")
