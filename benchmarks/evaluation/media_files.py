"""Pictures and clips in a folder, by their suffixes, and names as they are compared."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from seppo_core.judging.columns import Kind

TABLES = ("samples.jsonl", "metadata.jsonl", "metadata.csv")
"""Tables that say which file is of which prompt: `sample` writes the first."""
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic"),
    "video": (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif"),
}


def media_files(folder: Path, kind: Kind | None = None) -> Iterator[Path]:
    """The pictures, the clips or, without `kind`, both below a folder, in the order of their paths; no hidden ones."""
    wanted = SUFFIXES[kind] if kind is not None else SUFFIXES["image"] + SUFFIXES["video"]
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix.lower() in wanted and not hidden and file.is_file():
            yield file


def composed(name: str) -> str:
    """A name as it is compared: some systems store ö as one character, some as o with two dots."""
    return unicodedata.normalize("NFC", name)
