"""Folders, shards and archives of one-pixel pictures, for tests of what reads them."""

import json
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image

from seppo_core.config.data import DataConfig
from seppo_core.data.discover import find_source
from seppo_core.data.media import Decoder, MediaSource
from seppo_core.data.open import open_source
from seppo_core.data.open_records import open_folder
from seppo_core.data.source import BadItem, Source, View
from seppo_core.models.adapter import CropInfo


def write(folder: Path, name: str, content: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def jsonl(folder: Path, *rows: object) -> Path:
    return write(folder, "metadata.jsonl", "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))


class OneByte(Decoder):
    """The first byte of a file as a picture of one pixel."""

    kind, max_bytes, decoding = "image", 1000, "one byte"

    def __init__(self, height: int = 1, width: int = 1):
        self.height, self.width = height, width

    def decode(self, name, content):
        value = (content if isinstance(content, bytes) else content.read_bytes())[0]
        return View(torch.full((3, 1, 1), value, dtype=torch.uint8), CropInfo(1, 1, 0, 0, 1, 1))


def source_of(folder: Path, height: int, width: int, **how) -> MediaSource:
    found = find_source(str(folder))
    return MediaSource(open_folder(found), OneByte(height, width), **how)


def problems(folder: Path) -> list[BadItem | None]:
    """What is wrong with each row of a folder's table."""
    return faults(source_of(folder, 1, 1))


def faults(source: Source) -> list[BadItem | None]:
    """What is wrong with each item."""
    found: list[BadItem | None] = []
    for position in range(len(source)):
        try:
            source.item(position)
            found.append(None)
        except BadItem as bad:
            found.append(bad)
    return found


def opened(source: str | Path, decoder: Decoder | None = None, seed: int = 0, **data) -> MediaSource:
    """`data.source` with these other keys of `data`."""
    config = DataConfig(source=str(source), cache="c", height=1, width=1, **data)
    return open_source(config, decoder or OneByte(), seed)


def read(source: Source) -> list[tuple[str, int, int | None, bool | None] | str]:
    """Of each item: caption, first byte of winner and loser, label; of a bad one the reason."""
    found = []
    for position in range(len(source)):
        try:
            item = source.item(position)
        except BadItem as bad:
            found.append(bad.reason)
            continue
        first, second = [int(view.pixels[0, 0, 0]) for view in item.views.values()] + [None] * (2 - len(item.views))
        found.append((item.caption, first, second, item.label))
    return found


def jpeg(value: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A JPEG of one grey."""
    buffer = BytesIO()
    Image.new("RGB", size, (value,) * 3).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
