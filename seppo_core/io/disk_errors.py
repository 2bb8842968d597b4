"""Disk errors with the file, the cause and the cure. Without torch."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seppo_core.io.space import free_bytes

_CURES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or name a folder on another file system",
    errno.EROFS: "make it writable, or name a folder elsewhere",
    errno.EACCES: "change its permissions, or name a folder elsewhere",
    errno.EPERM: "change its permissions, or name a folder elsewhere",
    errno.EIO: "bring its disk back; was it unmounted?",
    errno.ESTALE: "mount its disk again",
    errno.ENOTCONN: "mount its disk again",
    errno.ENODEV: "mount its disk again",
    errno.ENXIO: "mount its disk again",
}
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Input/output error": errno.EIO,
    "Stale file handle": errno.ESTALE,
}
NEARLY_FULL = 2 * 1024**2


class DiskError(OSError):
    """A file could not be written or read. The text says which one, why and what to do."""

    def __init__(self, number: int, text: str):
        super().__init__(number, text)

    def __str__(self) -> str:
        return self.strerror


@contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turns disk errors while `path` is written into DiskError; other errors pass unchanged.

    Libraries hide such errors: safetensors in an exception of its own, torch in a RuntimeError without a number.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskError) or (number := _number(error, path)) is None:
            raise
        raise DiskError(
            number,
            f"{path} could not be written: {_reason(number, path)}; {_CURES[number]} and give the same command again. "
            "Files written before are complete",
        ) from error


def explanation(error: BaseException) -> str | None:
    """One line about a disk error that came up anywhere; None for other errors."""
    if not isinstance(error, OSError) or error.errno not in _CURES:
        return None
    if isinstance(error, DiskError):
        return str(error)
    place = error.filename or "a file"
    return f"{place}: {error.strerror}; {_CURES[error.errno]} and give the same command again"


def _number(error: Exception, path: Path) -> int | None:
    if isinstance(error, OSError):
        return error.errno if error.errno in _CURES else None
    text = str(error)
    if type(error).__name__ == "SafetensorError":
        found = re.search(r"os error (\d+)", text)
        return int(found[1]) if found and int(found[1]) in _CURES else None
    if isinstance(error, RuntimeError) and ("enforce fail at inline_container" in text or "PytorchStream" in text):
        known = next((number for words, number in _WORDS.items() if words in text), None)
        # torch only says that fewer bytes were written than expected
        return known or (errno.ENOSPC if free_bytes(path) < NEARLY_FULL else errno.EIO)
    return None


def _reason(number: int, path: Path) -> str:
    if number == errno.ENOSPC:
        return f"its disk is full ({free_bytes(path) / 1e6:.0f} MB are free)"
    return next((words.lower() for words, known in _WORDS.items() if known == number), errno.errorcode[number])
