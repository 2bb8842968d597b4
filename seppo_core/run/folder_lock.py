"""A run's folder while one process works in it: no other may, and it must not be swapped out under its feet."""

import json
import os
import platform
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none; two runs in one folder are then the user's own business
    fcntl = None

LOCK = "lock"
PATIENCE = 2.0


class RunFolderLock:
    """Holds the lock of a run folder from entering to leaving. The system lifts it when the process dies, however.

    ValueError, with who it is, where another process holds it. Where a file system knows no locks, there is none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._file = None
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> "RunFolderLock":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._identity = _identity(self.folder)
        self._file = (self.folder / LOCK).open("a+", encoding="utf-8")
        # `status` holds the lock for an instant when it looks
        deadline = time.monotonic() + PATIENCE
        while not _lock(self._file):
            if time.monotonic() > deadline:
                holder = _holder(self.folder)
                self._file.close()
                raise ValueError(
                    f"{self.folder} is being trained in by another process ({holder}); end that one first, or name "
                    "another folder as `run`"
                )
            time.sleep(0.1)
        self._file.truncate(0)
        self._file.write(json.dumps({"process": os.getpid(), "machine": platform.node()}) + "\n")
        self._file.flush()
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def check(self) -> None:
        """OSError where the folder is gone, or another now lies in its place, as after a mount vanished.

        Without it the next file would be written to the empty folder below the mount.
        """
        try:
            now = _identity(self.folder)
        except OSError as error:
            raise OSError(_gone(self.folder, error.strerror)) from error
        if now != self._identity:
            raise OSError(_gone(self.folder, "another one lies in its place"))


def holder_of(folder: Path) -> str | None:
    """Who trains in `folder` just now, None where nobody does or nobody can tell."""
    path = folder / LOCK
    if fcntl is None or not path.exists():
        return None
    with path.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(folder)
        except OSError:
            return None
    return None


def _lock(file) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # no locks here, e.g. on some network file systems
        return True
    return True


def _holder(folder: Path) -> str:
    try:
        found = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        return f"process {found['process']} on {found['machine']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _gone(folder: Path, why: str) -> str:
    return (
        f"{folder} is no longer the folder that the run began in ({why}); was it moved, or its disk unmounted? Bring "
        "it back and give the same command: it goes on from the last checkpoint"
    )
