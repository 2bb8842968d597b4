"""The columns that judges fill, and one sample's values or the reason why there are none."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "video"]
Mode = Literal["image", "frames", "clip", "paired", "set", "plugin"]


@dataclass(frozen=True)
class Column:
    """One number per sample (or per set of samples): how it is shown, and which way is better."""

    name: str
    metric: str
    mode: Mode
    what: str
    better: int = 1
    """+1 if more is better, -1 if less is better."""
    scale: float = 1.0
    """Factor by which values are multiplied when shown, as they are published."""
    digits: int = 3

    @property
    def title(self) -> str:
        """The column's heading: its name, its scale unless that is 1, and an arrow if less is better."""
        scaled = f" ×{self.scale:g}" if self.scale != 1 else ""
        return f"{self.name}{scaled}{' ↓' if self.better < 0 else ''}"


@dataclass(frozen=True)
class Score:
    """Columns and values of one sample, or the reason why there are none."""

    values: dict[str, float]
    reason: str | None = None
