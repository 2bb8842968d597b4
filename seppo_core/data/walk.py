"""The files under a folder: links are followed, each folder is entered once, what systems leave is passed over.

Imports no torch.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

LEFTOVERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))
"""Folders of systems, with copies and thumbnails that bear the names of pictures."""
MEDIA = frozenset(
    ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif .heic .heif .jxl .mp4 .webm .mkv .mov .avi .m4v".split()
)
TEXTS = (".txt", ".caption")
_MASKS = re.compile(r".*-(mask|cond)label", re.IGNORECASE)
"""Stems of masks that lie beside the pictures of OneTrainer."""


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is a system's: hidden, as ._a.png and .ipynb_checkpoints, or known."""
    return name.startswith(".") or name in LEFTOVERS


def walk_files(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders below `root`, relative to it, each with the sorted names of its files.

    Folders that links lead to come last and under the link's name, so that what is there without links keeps its name.
    """
    seen: set[tuple[int, int]] = set()
    linked = [""]
    while linked:
        waiting = [linked.pop(0)]
        while waiting:
            folder = waiting.pop()
            place = root / folder
            try:
                found = place.stat()
                entries = sorted(os.scandir(place), key=lambda entry: entry.name)
            except OSError:
                # a link to nothing, or a folder that is closed to us
                continue
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            names, below = [], []
            for entry in entries:
                if is_leftover(entry.name):
                    continue
                inside = f"{folder}/{entry.name}" if folder else entry.name
                if not entry.is_dir():
                    names.append(entry.name)
                elif entry.is_symlink():
                    linked.append(inside)
                else:
                    below.append(inside)
            waiting += reversed(below)
            yield folder, names


def pairs(names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Of the names of one folder: each picture or clip, and its text file, as a.txt, a.caption or a.png.txt."""
    known = list(names)
    texts = {name.lower(): name for name in known if name.lower().endswith(TEXTS)}
    for name in known:
        stem, dot, suffix = name.rpartition(".")
        if f"{dot}{suffix}".lower() in MEDIA and not _MASKS.fullmatch(stem):
            candidates = [base + text for base in (stem, name) for text in TEXTS]
            exact = next((candidate for candidate in candidates if candidate in texts.values()), None)
            yield name, exact or next((texts[c.lower()] for c in candidates if c.lower() in texts), None)
