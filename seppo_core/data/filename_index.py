"""Finds files by their names, wherever they are under a folder."""

import os
from pathlib import Path, PurePosixPath

import numpy as np

from seppo_core.data.source import BadItem
from seppo_core.data.walk import walk_files
from seppo_core.io.hashing import hash64

SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".gif", ".avi")
"""Suffixes of clips; if a name has several, the first of these is taken."""


class FilenameIndex:
    """`find("a")` is the path of a.mp4 below `root`, relative to it. Memory: the paths themselves and 16 bytes each."""

    def __init__(self, root: Path):
        self.root = root
        paths, hashes, starts = bytearray(), [], [0]
        hash_blocks, start_blocks = [], []
        for folder, names in walk_files(root):
            for name in names:
                stem, suffix = Path(name).stem, Path(name).suffix
                if suffix.lower() not in SUFFIXES:
                    continue
                paths += os.fsencode(f"{folder}/{name}" if folder else name)
                hashes.append(hash64(os.fsencode(stem)))
                starts.append(len(paths))
                if len(hashes) == 65536:
                    hash_blocks.append(np.array(hashes, dtype=np.uint64))
                    start_blocks.append(np.array(starts[:-1], dtype=np.int64))
                    hashes, starts = [], [starts[-1]]
        self._paths = bytes(paths)
        found = np.concatenate([*hash_blocks, np.array(hashes, dtype=np.uint64)])
        self._starts = np.concatenate([*start_blocks, np.array(starts, dtype=np.int64)])
        self._order = np.argsort(found, kind="stable")
        self._hashes = found[self._order]

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, stem: str) -> str:
        """The path of the file. Raises BadItem if there is none, or more than one with the same suffix."""
        # the column may carry the suffix after all
        stem = stem[: -len(stem.rpartition(".")[2]) - 1] if stem.lower().endswith(SUFFIXES) else stem
        wanted = np.uint64(hash64(os.fsencode(stem)))
        left, right = (int(np.searchsorted(self._hashes, wanted, side)) for side in ("left", "right"))
        # hashes of 64 bits may agree by chance
        found = [path for path in map(self._path, self._order[left:right]) if PurePosixPath(path).stem == stem]
        if not found:
            raise BadItem(stem, f"no such file: no {stem}{SUFFIXES[0]} anywhere under the folder")
        ranked = sorted(found, key=lambda path: SUFFIXES.index(PurePosixPath(path).suffix.lower()))
        if len(ranked) > 1 and PurePosixPath(ranked[0]).suffix.lower() == PurePosixPath(ranked[1]).suffix.lower():
            raise BadItem(stem, f"there twice: {ranked[0]} and {ranked[1]}; keep the one that is meant")
        return ranked[0]

    def _path(self, index: int) -> str:
        return os.fsdecode(self._paths[self._starts[index] : self._starts[index + 1]])
