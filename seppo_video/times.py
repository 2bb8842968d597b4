"""Says what the frames of the clips span in time, and what motion a model learns from that."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median

from seppo_core.cache.clip_times import ClipTimes
from seppo_core.data.source import Timing

UNEVEN = 1.5
"""Ratio of the longest to the shortest step from which on times are called uneven: containers round to milliseconds."""
APART = 1.1
"""Ratio of rates or spans that is no longer rounding."""


def timing(pts: Sequence[int], indices: Sequence[int], time_base: Fraction) -> Timing | None:
    """When the frames `indices` of a clip with these presentation times are shown; None for a single frame."""
    used = pts[indices[0] : indices[-1] + 1]
    steps = [b - a for a, b in pairwise(used)]
    if not steps:
        return None
    span, step = (used[-1] - used[0]) * time_base, median(steps) * time_base
    return Timing(round(float(span), 4), round(float(1 / step), 3), max(steps) <= UNEVEN * min(steps))


def times_text(times: ClipTimes, frames: int, fps: int) -> list[str]:
    """What to know of the times of the `frames` frames of each clip, if clips are drawn at `fps` frames a second."""
    least, middle, most = times.span
    slow, fast = ((frames - 1) / span for span in (most, least))
    spans = f"{least:.3g} s" if most <= APART * least else f"{least:.3g} to {most:.3g} s (median {middle:.3g})"
    lines = [
        f"the {frames} frames of a clip span {spans}, {_range(slow, fast)} frames a second; drawn at model.fps={fps} "
        f"their motion lasts {(frames - 1) / fps:.3g} s, {_range(fps / fast, fps / slow)} times as fast as it was"
    ]
    if times.rate[2] > APART * times.rate[0]:
        lines.append(
            f"the clips have {_range(times.rate[0], times.rate[2])} frames a second, and none is resampled: the same "
            "motion is learnt at different speeds; convert them to one rate first, e.g. ffmpeg -i IN -vf fps=24 OUT"
        )
    if times.uneven:
        more = ", …" if times.uneven > len(times.uneven_files) else ""
        lines.append(
            f"{times.uneven:,} of {times.clips:,} clips show frames at uneven times, and frames are counted: "
            f"{', '.join(times.uneven_files)}{more}; convert them to one rate too, or leave them out"
        )
    return lines


def _range(least: float, most: float) -> str:
    return f"{least:.3g}" if most <= APART * least else f"{least:.3g} to {most:.3g}"
