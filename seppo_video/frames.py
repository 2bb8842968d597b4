"""Reads frames of clips as RGB, and writes clips.

Frames are counted by the packets that PyAV finds, since containers' own counts are often wrong. decord decodes them if
it gives the same frames as PyAV, bit for bit; otherwise (GIF, AV1, more than 8 bits, transparency, rotation, pixels
that are not square, sizes that change, interlaced video, open GOPs, containers other than mp4 and Matroska, headers
that count other frames) PyAV does. Only PyAV notices damage that a decoder conceals.

Interlaced video whose combs show is refused, and so is HDR: what to make of either is the user's choice.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from io import SEEK_END, BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import av
import numpy as np
from jaxtyping import UInt8

from seppo_core.io.atomic import whole_file
from seppo_core.io.memory import memory_is_full
from seppo_video.combs import SUSPECT, comb_share, is_woven
from seppo_video.decord_limits import decord_frames, last_line, reason_against
from seppo_video.packets import SizeWatch
from seppo_video.pixels import decoder, hdr_reason, pixel_aspect, to_rgb

Reader = Literal["auto", "decord", "pyav"]
T = TypeVar("T")

INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""FFmpeg's names of the containers that tell when each frame is shown and can be entered in the middle.

Frames of others (avi, ts, flv, gif, …) are counted by decoding them all: avi and flv mistake the order that frames are
stored in for the order they are shown in, and transport streams are entered at the wrong frame.
"""

MAX_PIXELS = 64 * 1024**2
"""Limit of a frame; a damaged header can ask for any size."""


class ClipError(ValueError):
    """A clip that cannot be read, with the reason."""


@dataclass(frozen=True)
class Clip:
    """What a clip holds: `len(clip)` frames, numbered in the order they are shown."""

    content: Path | bytes
    """The file, or what is in it."""
    count: int
    pts: tuple[int, ...] | None
    """Presentation times of the frames, ascending; None if the container does not tell them reliably."""
    keys: tuple[int, ...]
    """Presentation times at which decoding can begin, ascending."""
    time_base: Fraction
    """Seconds of a unit of `pts`."""
    not_decord: str | None
    """Why decord would not give the same frames; None if it does."""

    def __len__(self) -> int:
        return self.count


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    end: int
    key: bool
    shown: bool
    damaged: bool


def open_clip(content: Path | bytes, max_pixels: int = MAX_PIXELS) -> Clip:
    """Finds the frames of a clip by reading its packets; decodes only the first. Raises ClipError if that fails.

    A clip whose file ends before its header says so is refused, as is one with frames of more than `max_pixels`.
    """
    try:
        with _opened(content) as container:
            stream = _video(container)
            aspect = pixel_aspect(stream)
            size = stream.codec_context.height * stream.codec_context.width * max(aspect, 1)
            if size > max_pixels:
                raise ClipError(f"frames of {int(size):,} pixels are over the limit of {max_pixels:,}")
            promised, time_base = stream.frames, stream.time_base
            lasting = (stream.duration or 0) * time_base * (stream.average_rate or 0)
            watch, packets = SizeWatch(stream.codec_context), []
            for packet in container.demux(stream):
                if packet.size:
                    watch.see(packet)
                    end = (packet.pts or 0) + (packet.duration or 0)
                    shown = not packet.is_discard
                    packets.append(_Packet(packet.pts, packet.dts, end, packet.is_keyframe, shown, packet.is_corrupt))
            # frames before the first key frame cannot be decoded
            first = next((i for i, packet in enumerate(packets) if packet.key), len(packets))
            shown = [packet for packet in packets[first:] if packet.shown]
            if not shown:
                raise ClipError("it has no frames")
            sound = next((i for i, packet in enumerate(packets) if packet.damaged), None)
            if sound is not None:
                raise ClipError(f"truncated or damaged after {sound} frames")
            if promised > (held := _bytes(content)):
                raise ClipError(f"its header promises {promised:,} frames in {held:,} bytes, which hold {len(shown):,}")
            _refuse_truncated(content, container, stream, shown)
            indexed = container.format.name in INDEXED
        with _opened(content) as container:
            decoded = _decode(container, _video(container))
            frame = next(decoded, None)
            if frame is None:
                raise ClipError("no frame can be decoded")
            if (reason := hdr_reason(frame)) is not None:
                raise ClipError(reason)
            times = sorted(packet.pts for packet in shown if packet.pts is not None)
            timed = indexed and len(set(times)) == len(shown)
            count = len(shown) if timed else 1 + sum(1 for _ in decoded)
    except (av.FFmpegError, OSError) as error:
        if memory_is_full():
            raise MemoryError from error
        raise ClipError(f"cannot be read: {error.strerror or error}") from error
    # headers that are damaged where no library looks
    except (ValueError, IndexError) as error:
        raise ClipError(str(error)) from error
    if not timed:
        reason = "its container has no sure times"
    elif first > 0 or len(shown) < len(packets):
        reason = "it begins between key frames"
    elif promised not in (0, len(packets)):
        reason = f"its header counts {promised:,} frames of {len(packets):,}"
    elif lasting > 1000 + 10 * len(packets) or not _ascend(
        [packet.dts for packet in packets if packet.dts is not None]
    ):
        # decord makes room for what the header says, and where there is none it ends the process
        reason = "its times leap"
    elif aspect != 1:
        reason = "its pixels are not square"
    else:
        reason = watch.reason() or reason_against(
            frame, [packet.pts for packet in packets], [packet.key for packet in packets]
        )
    keys = tuple(sorted(packet.pts for packet in packets[first:] if packet.key)) if timed else ()
    return Clip(content, count, tuple(times) if timed else None, keys, time_base, reason)


def read_frames(
    clip: Clip, indices: list[int], use: Callable[[UInt8[np.ndarray, "h w 3"]], T], reader: Reader = "auto"
) -> list[T]:
    """Calls `use` on each frame in `indices` (ascending) as it is decoded, so that one frame at a time is in memory.

    Raises ClipError if a frame cannot be decoded or is woven of two moments, or if `reader` is "decord" and decord
    would give other frames.
    """
    if any(b <= a for a, b in pairwise(indices)) or not 0 <= indices[0] <= indices[-1] < len(clip):
        raise IndexError(f"frames {indices} are not ascending within 0..{len(clip) - 1}")
    reason = clip.not_decord or ("it is not installed" if find_spec("decord") is None else None)
    if reader == "decord" and reason:
        raise ClipError(f"not read by decord: {reason}; use reader auto or pyav")
    used = None
    if reader != "pyav" and not reason:
        try:
            used = _used(decord_frames(clip.content, len(clip), indices), use)
        # decord says everything with one exception, and some things with RuntimeError
        except Exception as error:
            if reader == "decord":
                raise ClipError(f"not read by decord: {last_line(error)}") from error
    if used is None:
        used = _used(_by_pyav(clip, indices), use)
    _refuse_woven(clip, {index: share for index, (_, share) in zip(indices, used, strict=True) if share > SUSPECT})
    return [result for result, _ in used]


def _used(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]], use: Callable[[UInt8[np.ndarray, "h w 3"]], T]
) -> list[tuple[T, float]]:
    return [(use(frame), comb_share(frame)) for frame in frames]


def _refuse_woven(clip: Clip, suspects: dict[int, float]) -> None:
    """Raises ClipError if most of the frames that look like combs, by the share that does, change between fields."""
    worst = sorted(suspects, key=suspects.__getitem__)[-4:]
    inner = [index for index in worst if 0 < index < len(clip) - 1]
    woven = sum(is_woven(list(_by_pyav(clip, [index - 1, index, index + 1]))) for index in inner)
    if woven and 2 * woven >= len(inner):
        raise ClipError(
            "it is interlaced: the rows of its frames show two moments in turn; deinterlace it first, e.g. "
            "ffmpeg -i IN -vf bwdif OUT"
        )


def write_clip(path: Path, frames: UInt8[np.ndarray, "f h w 3"], fps: int, lossless: bool = True) -> None:
    """Writes an H.264 clip, whole or not at all, in the container that the suffix of `path` names (.mp4, .mov, .mkv).

    Lossless is RGB 4:4:4 with quantiser 0, exact to the bit. Otherwise YUV 4:2:0, which everything plays; it wants even
    sizes, so the last row or column may be repeated.
    """
    path = Path(path)
    containers = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
    if path.suffix not in containers:
        raise ValueError(f"{path.name} cannot hold H.264; use {', '.join(containers)}")
    codec, pixel_format, options = ("libx264rgb", "rgb24", {"qp": "0"}) if lossless else ("libx264", "yuv420p", {})
    if not lossless:
        frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], mode="edge")
    with whole_file(path) as temporary, av.open(str(temporary), "w", format=containers[path.suffix]) as container:
        stream = container.add_stream(codec, rate=fps, options=options | {"x264-params": "log-level=error"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixel_format
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())


def _opened(content: Path | bytes) -> av.container.InputContainer:
    # titles in other encodings are no reason to fail
    return av.open(BytesIO(content) if isinstance(content, bytes) else str(content), metadata_errors="replace")


def _bytes(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _ascend(times: list[int]) -> bool:
    return all(a < b for a, b in pairwise(times))


def _by_pyav(clip: Clip, indices: list[int]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    try:
        with _opened(clip.content) as container:
            yield from _pyav_frames(clip, container, indices)
    except (av.FFmpegError, OSError) as error:
        if memory_is_full():
            raise MemoryError from error
        raise ClipError(f"truncated or damaged: {error.strerror or error}") from error


def _decode(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """The frames of `stream` from where the container stands."""
    keeps_alpha = decoder(stream)
    if keeps_alpha is None:
        return container.decode(stream)
    return (frame for packet in container.demux(stream) for frame in keeps_alpha.decode(packet))


def _video(container: av.container.InputContainer) -> av.VideoStream:
    # if there are several, decord makes the same choice
    stream = container.streams.best("video")
    if stream is None:
        raise ClipError("it has no video")
    if stream.codec_context is None:
        raise ClipError("its codec is unknown")
    return stream


def _refuse_truncated(
    content: Path | bytes, container: av.container.InputContainer, stream: av.VideoStream, shown: list[_Packet]
) -> None:
    """Raises ClipError if the header promises more than the file holds, in containers that can be read when cut off."""
    if container.format.name == "gif":
        with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            file.seek(max(0, file.seek(0, SEEK_END) - 64))
            if not file.read().rstrip(b"\0\r\n").endswith(b";"):
                raise ClipError(f"truncated after {len(shown)} frames: the end mark is missing")
    if "matroska" in container.format.name:
        promised = _seconds(stream.metadata.get("DURATION"))
        if promised is None and len(container.streams) == 1 and container.duration:
            promised = container.duration / av.time_base
        held = float(max(packet.end for packet in shown) * stream.time_base)
        # timestamps are in ms, and a last frame may lack its duration
        slack = 0.01 + 2 * promised / (len(shown) + 1) if promised else 0
        if promised and held < promised - slack:
            raise ClipError(f"truncated after {len(shown)} frames: {held:.2f} s of {promised:.2f} s are there")


def _seconds(tag: str | None) -> float | None:
    """Matroska's DURATION tag, 00:00:04.625000000."""
    try:
        hours, minutes, seconds = (tag or "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _pyav_frames(
    clip: Clip, container: av.container.InputContainer, indices: list[int]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    stream = _video(container)
    frames, aspect = _decode(container, stream), pixel_aspect(stream)
    if clip.pts is None:
        wanted = set(indices)
        for index, frame in enumerate(frames):
            if index in wanted:
                yield _sound(clip, index, frame, aspect)
            if index == indices[-1]:
                return
        raise ClipError(f"frame {indices[-1]} of {len(clip)} cannot be decoded")
    position = clip.keys[0]
    for index in indices:
        time = clip.pts[index]
        nearest = bisect_right(clip.keys, time)
        frame = None
        if clip.keys[nearest - 1] > position:
            frame, frames = _seek(clip, container, stream, clip.keys[:nearest], time)
        while frame is None or frame.pts is None or frame.pts < time:
            frame = next(frames, None)
            if frame is None:
                raise ClipError(f"frame {index} of {len(clip)} cannot be decoded")
        if frame.pts != time:
            raise ClipError(f"frame {index} of {len(clip)} cannot be decoded")
        position = time
        yield _sound(clip, index, frame, aspect)


def _seek(
    clip: Clip, container: av.container.InputContainer, stream: av.VideoStream, keys: tuple[int, ...], time: int
) -> tuple[av.VideoFrame, Iterator[av.VideoFrame]]:
    """The frame at which decoding begins anew, not after `time`, and an iterator over those that follow it."""
    for key in reversed(keys):
        container.seek(key, stream=stream)
        frames = _decode(container, stream)
        frame = next(frames, None)
        # containers that are indexed by decoding time may land one key frame late
        if frame is not None and frame.pts is not None and frame.pts <= time:
            return frame, frames
    raise ClipError(f"cannot go back to a key frame before time {time}")


def _sound(clip: Clip, index: int, frame: av.VideoFrame, aspect: Fraction) -> UInt8[np.ndarray, "h w 3"]:
    if frame.is_corrupt:
        raise ClipError(f"frame {index} of {len(clip)} is damaged")
    return to_rgb(frame, aspect)
