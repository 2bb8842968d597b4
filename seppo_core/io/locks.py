"""Keeps two launches of `prepare` from writing into one cache folder."""

import fcntl
import json
import os
import platform
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

LOCK = "lock"


class CacheLock:
    """A lock on a file that the system releases when the process ends, however it ends: none is ever left behind.

    Every process of a launch holds it together with the others, and a launch begins by having it alone. So a new one is
    refused as long as any process of the old one lives, orphans of a killed launcher among them.
    """

    def __init__(self, folder: Path):
        self.path = folder / LOCK
        self._file: TextIO | None = None
        self._began = False

    def begin(self) -> None:
        """Takes the lock for this launch, by its first process. ValueError, with who has it, where it is taken."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+", encoding="utf-8")
        # another launch may hold it alone for a moment, between having it alone and sharing it
        for lock in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            try:
                fcntl.flock(self._file, lock | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = self._holder()
                self.release()
                raise ValueError(
                    f"{self.path.parent.parent} is being written by another `prepare` ({holder}); wait for it, or end "
                    "it and run this again"
                ) from error
            if lock == fcntl.LOCK_EX:
                self._file.truncate(0)
                self._file.write(json.dumps(_about_us()))
                self._file.flush()
                self._began = True

    def join(self) -> None:
        """Takes part in the lock that the first process has begun."""
        self._file = self.path.open("a+", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def release(self) -> None:
        if self._file is not None:
            if self._began:
                self._file.truncate(0)
            self._file.close()
            self._file, self._began = None, False

    def __enter__(self) -> "CacheLock":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def _holder(self) -> str:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return f"process {found['process']} on {found['host']} since {found['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "which has just begun"


def _about_us() -> dict[str, str | int]:
    return {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
