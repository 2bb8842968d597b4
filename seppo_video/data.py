"""Decodes clips, from any source or from a captioned folder."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image

from seppo_core.data.discover import find_source
from seppo_core.data.media import Decoder, MediaSource
from seppo_core.data.open_records import open_folder
from seppo_core.data.source import BadItem, View
from seppo_core.io import purposes
from seppo_core.io.rng import keyed_generator
from seppo_core.models.adapter import CropInfo
from seppo_core.models.crop import cover_crop
from seppo_video.frames import MAX_PIXELS, ClipError, Reader, open_clip, read_frames
from seppo_video.times import timing

Sampling = Literal["even", "window"]
MAX_BYTES = 4 * 1024**3


class Clips(Decoder):
    """Clips of any format that FFmpeg reads (mp4, webm, gif, mkv, …), `frames` frames of each, scaled and cropped.

    `sampling` "even" spreads the frames over the whole clip; "window" takes every `stride`-th from a start drawn by
    (seed, file name), whatever else is in the folder. A clip with too few frames is rejected, never repeated or padded.
    Pixels that are not square change a frame's width. Clips are never resampled in time.
    """

    kind = "video"

    def __init__(
        self,
        height: int,
        width: int,
        frames: int,
        *,
        sampling: Sampling = "even",
        stride: int = 4,
        reader: Reader = "auto",
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ):
        if stride < 1:
            raise ValueError(f"stride {stride} must be at least 1")
        self.height, self.width, self.frames, self.max_pixels, self.max_bytes = (
            height, width, frames, max_pixels, max_bytes
        )  # fmt: skip
        self.sampling, self.stride, self.reader, self.seed = sampling, stride, reader, seed
        # before 2: pixels were taken as square, transparent WebM was black, interlaced clips and HDR were read
        self.decoding = f"clips 2, reader {reader}"

    def settings(self) -> tuple[int | float | str | bool, ...]:
        # not the reader, which `decoding` names
        window = (self.stride, self.seed) if self.sampling == "window" else ()
        return (*super().settings(), self.max_pixels, self.sampling, *window)

    def decode(self, name: str, content: Path | bytes) -> View:
        try:
            clip = open_clip(content, self.max_pixels)
            indices = self._indices(name, len(clip))
            cut = read_frames(clip, indices, self._cut, self.reader)
        except ClipError as error:
            raise BadItem(name, str(error)) from error
        pixels = torch.from_numpy(np.stack([frame for frame, _ in cut]))
        times = None if clip.pts is None else timing(clip.pts, indices, clip.time_base)
        return View(rearrange(pixels, "f h w c -> c f h w").contiguous(), cut[0][1], times)

    def _indices(self, name: str, length: int) -> list[int]:
        if self.sampling == "even":
            needed, text = self.frames, ""
        else:
            needed = (self.frames - 1) * self.stride + 1
            text = f" for {self.frames} at a stride of {self.stride}"
        if length < needed:
            raise BadItem(name, f"too short: it has {length} frames, {needed} are needed{text}")
        if self.sampling == "even":
            return even_indices(length, self.frames)
        return window_indices(length, self.frames, self.stride, self.seed, name)

    def _cut(self, frame: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "height width 3"], CropInfo]:
        return cover_crop(Image.fromarray(frame), self.height, self.width)


class ClipFolder(MediaSource):
    """The clips that a folder's metadata.jsonl or metadata.csv lists, as winners; the rest is as in `Clips`."""

    def __init__(
        self,
        folder: str | Path,
        height: int,
        width: int,
        frames: int,
        *,
        sampling: Sampling = "even",
        stride: int = 4,
        reader: Reader = "auto",
        seed: int = 0,
    ):
        clips = Clips(height, width, frames, sampling=sampling, stride=stride, reader=reader, seed=seed)
        super().__init__(open_folder(find_source(str(folder), "folder")), clips)


def even_indices(length: int, frames: int) -> list[int]:
    """`frames` of `length` frames, spread from the first to the last: round(i (length − 1) / (frames − 1)).

    Halves are rounded up. One frame alone is the middle one. Distinct as long as `frames` ≤ `length`.
    """
    if frames == 1:
        return [(length - 1) // 2]
    return [(2 * i * (length - 1) + frames - 1) // (2 * (frames - 1)) for i in range(frames)]


def window_indices(length: int, frames: int, stride: int, *key: int | str) -> list[int]:
    """`frames` frames, `stride` apart, from a start that is uniform over all that fit and decided by `key` alone."""
    room = length - (frames - 1) * stride
    start = int(torch.randint(room, (), generator=keyed_generator(purposes.WINDOW, *key)))
    return list(range(start, start + (frames - 1) * stride + 1, stride))
