"""What the frames of clips span in seconds, noted while they are encoded. Without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class ClipTimes:
    """The times of all clips of a cache; three numbers are the least, the median and the greatest over the clips."""

    clips: int
    """Those whose files tell times."""
    span: tuple[float, float, float]
    """Seconds from the first to the last frame that is used."""
    rate: tuple[float, float, float]
    """Frames a second of the files."""
    uneven: int
    """Clips whose frames are not shown at even times."""
    uneven_files: tuple[str, ...]
    """The first of these."""

    @classmethod
    def of(cls, noted: Sequence[Sequence]) -> "ClipTimes | None":
        """From the file, span, rate and evenness of each clip; None if there are none."""
        if not noted:
            return None
        uneven = [file for file, _, _, even in noted if not even]
        spans, rates = ([clip[place] for clip in noted] for place in (1, 2))
        return cls(len(noted), _range(spans), _range(rates), len(uneven), tuple(uneven[:3]))

    @classmethod
    def from_json(cls, stored: dict) -> "ClipTimes":
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()})


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), median(values), max(values)
