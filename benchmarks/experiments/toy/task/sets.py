"""Writes the toy task as files a user could have: folders of PNGs and of clips, captions in `metadata.jsonl`."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from seppo_core.toy.captions import Modality

FRAMES_PER_SECOND = 8
LOSSLESS = {"qp": "0", "x264-params": "log-level=error"}


def to_bytes(pixels: Tensor) -> np.ndarray:
    """Pixels in [-1, 1], channels first after the batch, to uint8 with channels last."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).numpy()


def write_clip(path: Path, frames: np.ndarray) -> None:
    """Writes frames (f, h, w, 3) uint8 as lossless H.264.

    Coded as RGB 4:4:4 with quantiser 0 (`libx264rgb`), so that every byte comes back; through YUV, 8 bits would round.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=Fraction(FRAMES_PER_SECOND), options=LOSSLESS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def write_set(folder: Path, modality: Modality, pixels: Tensor, captions: Sequence[str]) -> Path:
    """Writes one captioned folder: NNNN.png or NNNN.mp4, and `metadata.jsonl` with `file_name` and `caption`.

    Raises FileExistsError if the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; remove it, or write the sets elsewhere")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (sample, caption) in enumerate(zip(to_bytes(pixels), captions, strict=True)):
        name = f"{i:04d}.{'png' if modality == 'image' else 'mp4'}"
        if modality == "image":
            Image.fromarray(sample).save(folder / name)
        else:
            write_clip(folder / name, sample)
        rows.append(json.dumps({"file_name": name, "caption": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def read_set(folder: Path) -> tuple[Tensor, list[str]]:
    """Pixels in [-1, 1] and captions of a folder that `write_set` wrote."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    samples = []
    for row in rows:
        path = folder / row["file_name"]
        if path.suffix == ".png":
            with Image.open(path) as image:
                samples.append(np.asarray(image.convert("RGB")))
        else:
            with av.open(str(path)) as container:
                samples.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    pixels = rearrange(torch.from_numpy(np.stack(samples)), "n ... c -> n c ...").float()
    return pixels / 127.5 - 1, [row["caption"] for row in rows]
