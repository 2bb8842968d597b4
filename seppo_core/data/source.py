"""Where items come from: the interface that `prepare` reads, and the errors that one bad item may raise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple

from seppo_core.config.method_specs import Supervision

if TYPE_CHECKING:
    # `plan` counts rows and reads manifests without torch
    from jaxtyping import UInt8
    from torch import Tensor

    from seppo_core.models.latents import CropInfo

Kind = Literal["image", "video"]


VIEWS: dict[Supervision, tuple[str, ...]] = {
    "winners": ("winner",), "pairs": ("winner", "loser"), "labels": ("item",), "prompts": ("prompt",),
}  # fmt: skip
"""Names of an item's views, by what the items are. A labelled item is neither winner nor loser, and a caption alone has
a view without pixels."""


class BadItem(Exception):
    """One item cannot be used, the others can. `file` is its name in the source, `reason` is in words."""

    def __init__(self, file: str, reason: str):
        # both go into files and onto terminals, which half a character would break
        self.file, self.reason = printable(file), printable(reason)
        super().__init__(f"{self.file}: {self.reason}")


class LeftOut(BadItem):
    """A valid item excluded by request, e.g. a tie or an item labelled undesirable."""


class SourceLost(FileNotFoundError):
    """The source as a whole cannot be read any more: its disk is gone, its files were changed meanwhile, or the
    memory is full."""


class Timing(NamedTuple):
    """When the frames of a clip are shown."""

    span: float
    """Seconds from the first frame that is used to the last."""
    rate: float
    """Frames a second of the file, between these."""
    even: bool
    """Whether they are shown at even times."""


class View(NamedTuple):
    """One picture or clip of an item, and how it was cut from the original."""

    pixels: UInt8[Tensor, "3 *frames h w"] | None
    """None of a caption alone, whose crop is that of a whole picture."""
    crop: CropInfo
    timing: Timing | None = None
    """None for pictures, and for clips that do not tell it."""
    noise: dict | None = None
    """Of a sample that `rank` drew: `key` of the noise that it was drawn from, and its `size` (height, width,
    frames)."""


class Item(NamedTuple):
    """A caption with the pictures or clips that belong to it, all of one size, by name (`VIEWS`)."""

    id: str
    """Stays the same if the item moves to another place in the table."""
    file: str
    caption: str
    views: dict[str, View]
    label: bool | None = None
    """Whether a labelled item is desirable; None for other items."""
    more: tuple[str, ...] = ()
    """Further captions; one of all is drawn at each use."""


class Source(ABC):
    """Captioned items of one size, read by position in any order; several threads may ask at once."""

    kind: Kind
    form: Supervision = "winners"
    """Whether the items are winners, pairs of winner and loser, or labelled desirable or not."""
    height: int
    width: int
    frames: int
    """Frames of a clip; 1 for pictures."""
    decoding: str | None = None
    """What decodes the items, with a number that changes when it makes other pixels of the same files."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of items, with the unusable ones."""

    @abstractmethod
    def item(self, position: int) -> Item:
        """The item at `position`. Raises BadItem if it cannot be used, SourceLost if no item can be read any more."""

    def distinct_captions(self) -> int | None:
        """At most how many distinct captions the items have, if that can be told without reading items; else None.

        May read all captions of a table.
        """
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that changes with whatever changes an item: files, captions, size, sampling. Reads no pixels."""


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8. JSON can hold half an emoji, which no tokenizer and no file takes."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def printable(text: str) -> str:
    """`text` with what UTF-8 cannot hold written out, as \\ud83d."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
