"""The winners: where they lie and how they are encoded.

Without torch, like all of the schema.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from seppo_core.config_values import at_least, share


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The winners: a folder of captioned files, encoded once by `prepare`."""

    source: str
    """Folder of files with captions in metadata.jsonl or metadata.csv."""
    cache: str
    """Folder that `prepare` writes latents and text embeddings to and `train` reads."""
    height: int
    """In pixels, after resize and centre crop."""
    width: int
    """In pixels, after resize and centre crop."""
    flip: bool = False
    """Cache a mirrored copy too and pick one of the two at every use."""
    caption_dropout: float = 0.1
    """Share of captions replaced by the empty one, the same for a winner and its reference sample."""
    posterior: Literal["draw", "mode"] = "draw"
    """Whether a winner's latents are drawn from the VAE's posterior at every use, or are always its mode."""
    encode_batch_size: int = 8
    """Files that `prepare` encodes at once."""
    cache_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the cached tensors."""
    max_rejected_share: float = 0.5
    """`prepare` fails where more than this share of the files is unusable; rejected.jsonl lists them with reasons."""

    frames: ClassVar[int] = 1
    """Of an item; clips have a field of this name instead."""

    def __post_init__(self):
        at_least("data", self, 1, "height", "width", "encode_batch_size")
        share("data", self, "caption_dropout", "max_rejected_share")
