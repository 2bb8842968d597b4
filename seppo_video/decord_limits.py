"""decord, a second reader of clips, and those of which it gives other frames than PyAV does."""

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from einops import rearrange
from jaxtyping import UInt8


def reason_against(frame: av.VideoFrame, times: Sequence[int], keys: Sequence[bool]) -> str | None:
    """Why decord would give other frames than PyAV; None if it gives the same.

    `frame` is the clip's first one; `times` and `keys` are the presentation times of the packets, in the order they are
    stored in, and whether each is a key frame.
    """
    if _has_open_groups(times, keys):
        return "frames lean on key frames shown after them (open GOP)"
    if frame.interlaced_frame:
        return "it is interlaced"
    if frame.rotation:
        return "it is rotated"
    if any(component.bits > 8 for component in frame.format.components):
        return "it has more than 8 bits"
    if any(component.is_alpha for component in frame.format.components) or frame.format.has_palette:
        return "it has transparency or a palette"
    return None


def decord_frames(
    content: Path | bytes, count: int, indices: Sequence[int]
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The frames at `indices` of a clip of `count` frames; raises ValueError if decord counts others."""
    import decord

    # otherwise FFmpeg's complaints about one bad clip run through the progress bar
    decord.logging.set_level(decord.logging.QUIET)
    # a thread per core would hold that many frames; clips are read several at a time instead
    reader = decord.VideoReader(BytesIO(content) if isinstance(content, bytes) else str(content), num_threads=1)
    if len(reader) != count:
        raise ValueError(f"decord finds {len(reader)} frames of {count}")
    for index in indices:
        frame = reader[index].asnumpy()
        height, width, _ = frame.shape
        # if a row is padded to a multiple of its width (48, 72 pixels), decord takes the padding for more channels
        yield rearrange(frame, "h w c -> h (w c)")[:, : 3 * width].reshape(height, width, 3)


def last_line(error: Exception) -> str:
    """decord's message without the places in its sources that it passed through."""
    return re.sub(r"\[[\d:]+\] \S+:\d+: ", "", str(error)).strip().splitlines()[0][:200]


def _has_open_groups(times: Sequence[int], keys: Sequence[bool]) -> bool:
    """Whether a frame is shown before a key frame that is stored before it; decord then miscounts when it jumps."""
    earliest = times[-1]
    for time, key in zip(reversed(times), reversed(keys), strict=True):
        earliest = min(earliest, time)
        if key and earliest < time:
            return True
    return False
