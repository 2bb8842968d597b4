"""Where items come from: the interface that `prepare` reads, and the errors that one bad item may raise."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from seppo_core.config.method_specs import Supervision
from seppo_core.models.adapter import CropInfo

Kind = Literal["image", "video"]


VIEWS: dict[Supervision, tuple[str, ...]] = {"winners": ("winner",), "pairs": ("winner", "loser"), "labels": ("item",)}
"""Names of an item's views, by what the items are. A labelled item is neither winner nor loser."""


class BadItem(Exception):
    """One item cannot be used, the others can: `file` as the source names it, and the reason in words."""

    def __init__(self, file: str, reason: str):
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason


class LeftOut(BadItem):
    """An item that nothing is wrong with and that the data are asked for without: a tie, one labelled bad."""


class SourceLost(FileNotFoundError):
    """The source as a whole can be read no more: its disk is gone, or its files were changed under way."""


class View(NamedTuple):
    """One picture or clip of an item, and how it was cut from the original."""

    pixels: UInt8[Tensor, "3 *frames h w"]
    crop: CropInfo


class Item(NamedTuple):
    """A caption with the pictures or clips that belong to it, all of one size, by name (`VIEWS`)."""

    id: str
    """Stays the same if the item moves to another place in the table."""
    file: str
    caption: str
    views: dict[str, View]
    label: bool | None = None
    """Whether a labelled item is desirable; None for other items."""


class Source(ABC):
    """Captioned items of one size, read by position and in any order, from several threads at once."""

    kind: Kind
    form: Supervision = "winners"
    """What the items are: winners alone, pairs of winner and loser, or items labelled good or bad."""
    height: int
    width: int
    frames: int
    """Frames of a clip; 1 for pictures."""

    @abstractmethod
    def __len__(self) -> int:
        """Items listed, the bad ones among them."""

    @abstractmethod
    def item(self, position: int) -> Item:
        """The item at `position`; BadItem where it cannot be used, SourceLost where no other can either."""

    def distinct_captions(self) -> int | None:
        """How many different captions the items have at most, where that can be told without reading items; else None.

        May pass over a table's captions."""
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes with whatever changes an item: files, captions, size, sampling. Cheap: reads no pixels."""


def first_line(error: BaseException, limit: int = 200) -> str:
    """An exception in one short line: decoders put stack traces into their messages."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (text or type(error).__name__)[:limit]
