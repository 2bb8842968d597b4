"""Hashes of large files, remembered between commands, so that each content is read in full once.

The memory is a text file in the user's cache folder, one line a file: device, inode, size, time of the last change of
content and of the last change of any kind (ns), SHA-256, and a check of the line. A line that is damaged or half
written is as good as none, and so is the whole memory: the file is then read again.
"""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import gettempdir
from threading import Lock

from seppo_core.io.atomic import save_text
from seppo_core.io.hashing import sha256_file

THREADS = 4
LARGEST_MEMORY = 4 * 1024**2
"""Bytes above which the older half of the memory is dropped."""
SETTLED_NS = 50_000_000
"""Nanoseconds after which a change of a file is sure to show in its times: clocks of file systems tick slowly."""

_Key = tuple[int, int, int, int, int]
_lock = Lock()
_known: dict[Path, dict[_Key, str]] = {}
"""The lines read or written so far, by memory file."""
_reading_all: list[bool] = []
"""Not empty within `reading_all`."""
_read: dict[Path, int] = {}
"""How much of each memory file has been read."""


def memory_file() -> Path:
    """The memory's file: in SEPPO_CACHE_HOME, or in `seppo` under XDG_CACHE_HOME or ~/.cache."""
    own, general = os.environ.get("SEPPO_CACHE_HOME"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own) / "hashes.txt"
    try:
        return (Path(general) if general else Path.home() / ".cache") / "seppo" / "hashes.txt"
    except RuntimeError:
        # a process without a home
        return Path(gettempdir()) / "seppo" / "hashes.txt"


def remembered_sha256(path: Path) -> str:
    """SHA-256 of a file's content: read in full, or remembered of the very same state of the file."""
    key, memory = _key(path), memory_file()
    if not _reading_all and (known := _recall(memory, key)) is not None:
        return known
    digest = sha256_file(path)
    # a file that was changed a moment ago, or meanwhile, may change again without another time
    if _key(path) == key and time.time_ns() - max(key[3:]) > SETTLED_NS:
        _remember(memory, key, digest)
    return digest


@contextmanager
def reading_all() -> Iterator[None]:
    """Context in which every file is read in full, whatever is remembered; what is found is remembered instead."""
    _reading_all.append(True)
    try:
        yield
    finally:
        _reading_all.pop()


def remembered_hashes(paths: Sequence[Path]) -> list[str]:
    """`remembered_sha256` of every path; several files are read at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(remembered_sha256, paths))


def _key(path: Path) -> _Key:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _recall(memory: Path, key: _Key) -> str | None:
    with _lock:
        known = _known.setdefault(memory, {})
        if key not in known:
            # what other processes have added since
            with suppress(OSError):
                _read_on(memory, known)
        return known.get(key)


def _read_on(memory: Path, known: dict[_Key, str]) -> None:
    size, start = memory.stat().st_size, _read.get(memory, 0)
    if size == start:
        return
    with memory.open("rb") as file:
        # a shorter one was written anew
        file.seek(start if start < size else 0)
        lines = file.read().split(b"\n")
    for line in lines:
        fields = line.decode("ascii", "replace").split(" ")
        if len(fields) == 7 and fields[6] == _check(" ".join(fields[:6])):
            known[tuple(map(int, fields[:5]))] = fields[5]
    # the last line may still be being written
    _read[memory] = size - len(lines[-1])


def _remember(memory: Path, key: _Key, digest: str) -> None:
    line = " ".join(map(str, (*key, digest)))
    with _lock:
        _known.setdefault(memory, {})[key] = digest
        # a memory that cannot be written costs time and nothing else
        with suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            # one write to a file that is opened for appending: other processes' lines come before or after it
            descriptor = os.open(memory, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                # behind a line that a crash broke off, it begins a new one
                os.write(descriptor, f"\n{line} {_check(line)}\n".encode())
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > LARGEST_MEMORY:
                lines = memory.read_text(encoding="ascii", errors="replace").split("\n")
                # what others append meanwhile is lost, and read again
                save_text(memory, "\n".join(lines[len(lines) // 2 :]) + "\n")
                _read[memory] = 0


def _check(line: str) -> str:
    return blake2b(line.encode(), digest_size=4).hexdigest()
