"""Frames of a picture or a clip with whichever reader the environment has."""

from __future__ import annotations

from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def read_frames(path: str) -> list:
    """RGB pictures (PIL) of a file, one for a picture. Raises ValueError if no reader opens it."""
    from PIL import Image

    if Path(path).suffix.lower() in PICTURES:
        with Image.open(path) as image:
            return [image.convert("RGB")]
    for reader in (_with_av, _with_decord, _with_cv2):
        try:
            found = reader(path)
        except ImportError:
            continue
        if not found:
            raise ValueError(f"{path} holds no frame")
        return [Image.fromarray(frame) for frame in found]
    raise ValueError("nothing here reads clips; install av, decord or opencv-python-headless")


def evenly(frames: list, count: int) -> list:
    """At most `count` of them, evenly spread: floor(i · n / count), as VideoScore takes them."""
    if len(frames) <= count:
        return frames
    return [frames[i * len(frames) // count] for i in range(count)]


def _with_av(path: str) -> list:
    import av

    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _with_decord(path: str) -> list:
    import decord

    return list(decord.VideoReader(path)[:].asnumpy())


def _with_cv2(path: str) -> list:
    import cv2

    video, frames = cv2.VideoCapture(path), []
    while True:
        there, frame = video.read()
        if not there:
            video.release()
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
