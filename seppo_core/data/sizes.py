"""The sizes of pictures by their headers: no pixels are decoded."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from seppo_core.data.records import Records

LOOKED_AT = 64
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""Orientations of EXIF that exchange height and width."""


def picture_sizes(records: Records, most: int = LOOKED_AT) -> list[tuple[int, int]]:
    """Height and width in pixels of up to `most` pictures, spread evenly; what no header tells, as of clips, is left
    out."""
    sizes = []
    for position in sorted({number * len(records) // most for number in range(most)} if len(records) else ()):
        try:
            record = records.record(position)
            content = (record.winner or record.loser).content
            with Image.open(content if isinstance(content, Path) else BytesIO(content)) as image:
                turned = image.getexif().get(_ORIENTATION) in _TURNED
                sizes.append(image.size if turned else image.size[::-1])
        # a row that cannot be used is told by `prepare`, and readers raise whatever they like for damage
        except Exception:
            continue
    return sizes
