"""Small clips in the codecs and shapes that users have, written on the spot."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECONDS = Fraction(1, 1000)


def moving(frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames (f, h, w, 3) that all differ: a gradient that drifts under a white square."""
    y, x = np.mgrid[0:height, 0:width]
    clip = np.empty((frames, height, width, 3), dtype=np.uint8)
    for i in range(frames):
        clip[i] = np.stack([x * 3 + i * 7, y * 5 + i * 3, np.full_like(x, i * 11)], axis=-1) % 256
        clip[i, 4:12, i % (width - 8) : i % (width - 8) + 8] = 255
    return clip


def encode(
    path: Path,
    frames: np.ndarray,
    codec: str,
    pixel_format: str,
    times: Iterable[int] | None = None,
    form: str | None = None,
    container_options: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Writes `frames` at 8 per second, or at `times` in milliseconds."""
    if codec == "libx264":
        options["x264-params"] = ":".join(["log-level=error", *filter(None, [options.pop("x264", "")])])
    with av.open(str(path), "w", format=form, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=8, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixel_format
        if times is not None:
            stream.codec_context.time_base = MILLISECONDS
        for i, (pixels, time) in enumerate(zip(frames, times or range(len(frames)), strict=True)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = time, MILLISECONDS
            else:
                frame.pts, frame.time_base = i, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path: Path) -> np.ndarray:
    """All frames, decoded one after the other."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def copied_from(path: Path, source: Path, skip: int) -> Path:
    """The packets of `source` without the first `skip`, not encoded anew: what a careless cut leaves."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in [packet for packet in old.demux(video=0) if packet.size][skip:]:
            packet.stream = stream
            new.mux(packet)
    return path


def rotated(path: Path, source: Path, matrix: tuple[int, int, int, int]) -> Path:
    """An mp4 whose header asks for another orientation, as phones write."""
    content = bytearray(source.read_bytes())
    # tkhd: kind, version and flags, 5 fields and 4 short ones of which 8 bytes are reserved, then the matrix
    at = content.index(b"tkhd") + 4 + 4 + 20 + 16
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        content[at + place : at + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    return path
