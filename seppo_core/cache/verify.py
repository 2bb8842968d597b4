"""Compares every file of a cache with the hash that `prepare` wrote, and marks damaged shards to be encoded again."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from seppo_core.cache.manifest import FORMAT, Manifest, StoredFile
from seppo_core.cache.writer import PARTS, STARTED, CacheFolder
from seppo_core.io.hashing import sha256_file
from seppo_core.io.locks import LaunchLock, ReadersLock
from seppo_core.io.progress import progress_bar

THREADS = 4


@dataclass(frozen=True)
class Damage:
    """A file of the cache that differs from what `prepare` wrote, and how."""

    file: str
    problem: str


def find_damage(folder: Path, progress: bool = True) -> tuple[list[Damage], int]:
    """Reads every file of a cache, or every shard so far of an unfinished one; returns the damage and how many it read.

    Raises FileNotFoundError if there is no cache; ValueError if its manifest is of another version or unreadable.
    """
    files = _files(folder)
    total = sum(stored.bytes for stored in files)
    with (
        progress_bar(total, unit="B", with_prefix=True, description="verify", visible=progress) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        damaged = []
        for stored, problem in zip(files, pool.map(_problem, repeat(folder), files), strict=True):
            bar.update(stored.bytes)
            if problem is not None:
                damaged.append(Damage(stored.file, problem))
    return damaged, len(files)


def mend(folder: Path, damaged: list[Damage]) -> int:
    """Marks the damaged shards, so that the next `prepare` encodes them again; returns how many shards it will encode.

    Tables are always made anew. Raises ValueError if another process is writing to the folder, or reads it.
    """
    with LaunchLock(folder / PARTS) as lock, ReadersLock(folder / PARTS) as readers:
        lock.begin()
        readers.exclude()
        header = _header(folder)
        cache = CacheFolder(folder, header["fingerprint"], header["settings"])
        shards = [Path(one.file).stem for one in damaged if one.file.startswith(("items-", "text-"))]
        # in this order a kill in between leaves either a finished cache, whose damage is found again, or an unfinished
        # one that counts nothing damaged as done
        for name in shards:
            cache.forget(name)
        known = [Path(stored.file).stem for stored in _files(folder) if stored.file.startswith(("items-", "text-"))]
        cache.reopen()
        return sum(cache.note(name) is None for name in known)


def _files(folder: Path) -> list[StoredFile]:
    if (folder / "manifest.json").is_file() or not (folder / STARTED).is_file():
        return list(Manifest.read(folder).files)
    header = _header(folder)
    cache = CacheFolder(folder, header["fingerprint"], header["settings"])
    notes = (cache.note(path.stem) for path in sorted((folder / PARTS).glob("*.json")))
    return [note.stored for note in notes if note is not None and note.stored is not None]


def _header(folder: Path) -> dict:
    """The header of a finished or unfinished cache: its fingerprint and settings."""
    for name in ("manifest.json", STARTED):
        if (folder / name).is_file():
            found = json.loads((folder / name).read_text(encoding="utf-8"))
            if found.get("format") == FORMAT:
                return found
    raise FileNotFoundError(f"no cache at {folder}; run `prepare` first")


def _problem(folder: Path, stored: StoredFile) -> str | None:
    try:
        if (problem := stored.size_problem(folder)) is not None:
            return problem
        return None if sha256_file(folder / stored.file) == stored.sha256 else "has another content than was written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
