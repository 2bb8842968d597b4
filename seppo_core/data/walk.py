"""The files under a folder: links are followed, each folder is entered once, what systems leave is passed over."""

import os
from collections.abc import Iterator
from pathlib import Path

LEFTOVERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))
"""Folders of systems, with copies and thumbnails that bear the names of pictures."""


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
