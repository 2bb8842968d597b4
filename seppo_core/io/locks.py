"""Locks on folders: the operating system frees them when their holder ends, even by kill -9, so none goes stale.

Each is a lock on the file `lock` in the folder, which also tells who holds it.
"""

import errno
import json
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout

from seppo_core.io.disk_errors import explain_disk_errors

try:
    import fcntl
except ImportError:
    # Windows has no shared locks
    fcntl = None

LOCK = "lock"
READERS = "readers"
"""The file in whose place readers of a cache lock it."""
PATIENCE = 2.0
"""Seconds to wait for an exclusive lock: `holder_of` takes a shared one for an instant."""
NAMED_WITHIN = 0.5
"""Seconds within which a new holder has written its name."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of a file system that has no locks, as some network file systems."""


class FolderLock:
    """An exclusive lock on a folder, held within `with`; the folder must stay the same one meanwhile (`check`).

    Raises ValueError, naming the holder, if another process holds it. On a file system without locks there is none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        # a marker file in place of a lock would outlive a kill
        self._lock = FileLock(folder / LOCK, fallback_to_soft=False)
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> "FolderLock":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._identity = _identity(self.folder)
        try:
            self._lock.acquire(timeout=PATIENCE, poll_interval=0.1)
        except Timeout as error:
            raise ValueError(in_use(self.folder, _read_holder(self.folder))) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _say_unlocked(self.folder, error)
            return self
        _write_holder(self.folder)
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def release(self) -> None:
        """Frees the folder; nothing happens if the lock is not held."""
        self._lock.release()

    def check(self) -> None:
        """Raises OSError if the folder is gone or another one lies in its place, as after a mount vanished.

        Without this check the next file would be written into the empty folder below the mount.
        """
        try:
            now = _identity(self.folder)
        except OSError as error:
            raise OSError(_gone(self.folder, error.strerror)) from error
        if now != self._identity:
            raise OSError(_gone(self.folder, "another one lies in its place"))


class LaunchLock:
    """A lock on a folder that all processes of one launch share.

    The first process begins it alone, the others join. A further launch is refused as long as any process of the first
    one lives, among them orphans of a killed launcher. On Windows only the first process holds it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._file: TextIO | None = None
        self._exclusive: FileLock | None = None
        self._began = False

    def begin(self) -> None:
        """Takes the lock, in the first process of a launch. Raises ValueError, naming the holder, if it is taken."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if fcntl is None:
                self._exclusive = FileLock(self.folder / LOCK)
                self._exclusive.acquire(timeout=0)
            else:
                self._file = (self.folder / LOCK).open("a+", encoding="utf-8")
                # alone for a moment, so that nobody else holds it, then shared, so that the others can join
                _flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, self.folder)
                _write_holder(self.folder)
                _flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, Timeout) as error:
            holder = _read_holder(self.folder)
            self.release()
            raise ValueError(
                f"{self.folder.parent} is being written by another `prepare` ({holder}); wait for it, or end it and "
                "run this again"
            ) from error
        self._began = True

    def join(self) -> None:
        """Takes part in the lock that the first process has begun."""
        if fcntl is not None:
            self._file = (self.folder / LOCK).open("a+", encoding="utf-8")
            _flock(self._file, fcntl.LOCK_SH)

    def release(self) -> None:
        if self._file is not None:
            if self._began:
                self._file.truncate(0)
            self._file.close()
        if self._exclusive is not None:
            self._exclusive.release()
        self._file, self._exclusive, self._began = None, None, False

    def __enter__(self) -> "LaunchLock":
        return self

    def __exit__(self, *_) -> None:
        self.release()


class ReadersLock:
    """A lock on the cache above `folder`: shared by all who read it for long, exclusive for who writes there.

    Without locks (Windows, some network disks) or rights to write, as on a read-only disk, reading goes on unlocked.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._file: TextIO | None = None
        self._alone = False

    def share(self) -> "ReadersLock":
        """Keeps writers away. Raises ValueError, naming the holder, if one is there."""
        if fcntl is None or not self.folder.parent.is_dir():
            return self
        try:
            self.folder.mkdir(exist_ok=True)
            self._file = (self.folder / READERS).open("a+", encoding="utf-8")
        except OSError:
            # whoever cannot write there may still lock what the writer has left
            with suppress(OSError):
                self._file = (self.folder / READERS).open(encoding="utf-8")
        if self._file is not None:
            self._take(fcntl.LOCK_SH, "written by `prepare`; wait for it")
        return self

    def exclude(self) -> None:
        """Keeps everybody else away. Raises ValueError, naming the holder, if anybody is there."""
        if fcntl is not None and self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self.folder / READERS).open("a+", encoding="utf-8")
            self._take(fcntl.LOCK_EX, "read by a run; end that first, or name another folder as data.cache")
            self._alone = True

    def _take(self, kind: int, otherwise: str) -> None:
        try:
            _flock(self._file, kind | fcntl.LOCK_NB, self.folder.parent)
        except BlockingIOError as error:
            holder = _local_holders(self.folder / READERS) or _read_holder(self.folder, READERS)
            self.release()
            what, cure = otherwise.split("; ")
            raise ValueError(f"{self.folder.parent} is being {what} ({holder}); {cure}") from error
        if self._file.writable():
            with suppress(OSError):
                _write_holder(self.folder, READERS)

    def release(self) -> None:
        if self._file is not None:
            if self._alone:
                self._file.truncate(0)
            self._file.close()
        self._file, self._alone = None, False

    def __enter__(self) -> "ReadersLock":
        return self

    def __exit__(self, *_) -> None:
        self.release()


def holder_of(folder: Path) -> str | None:
    """The process that holds the `FolderLock` of `folder`; None if there is none, or if nobody can tell (Windows)."""
    path = folder / LOCK
    if fcntl is None or not path.exists():
        return None
    with path.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(folder)
        except OSError:
            return None
    return None


def in_use(folder: Path, holder: str) -> str:
    """The error message for a run folder that another process trains in."""
    return (
        f"{folder} is being trained in by another process ({holder}); end that one first, or name another folder as "
        "`run`"
    )


def _flock(file: TextIO, kind: int, folder: Path | None = None) -> None:
    """Locks `file`; where the file system has no locks it goes on without one, and says so if `folder` is given."""
    try:
        fcntl.flock(file, kind)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if folder is not None:
            _say_unlocked(folder, error)


def _say_unlocked(folder: Path, error: OSError) -> None:
    print(
        f"{folder} cannot be locked ({error.strerror}), as on some network disks; going on without: nothing but you "
        "keeps a second command from writing there meanwhile",
        file=sys.stderr,
    )


def _local_holders(path: Path) -> str | None:
    """The processes of this machine that hold a lock on `path`, by Linux's own list; None if that names none.

    The file itself names only the last of several that share it.
    """
    try:
        lines = Path("/proc/locks").read_text().splitlines()
        number = str(path.stat().st_ino)
    except OSError:
        return None
    # 1: FLOCK ADVISORY READ 1234 08:01:5678 0 EOF
    fields = [line.split() for line in lines if " FLOCK " in line and "->" not in line]
    found = {int(field[4]) for field in fields if field[5].rpartition(":")[2] == number}
    named = sorted(process for process in found if process > 0)
    if not named:
        return None
    return f"process {' and '.join(map(str, named))} on {platform.node()}"


def _write_holder(folder: Path, name: str = LOCK) -> None:
    about = {"process": os.getpid(), "machine": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    # on Windows nobody else can write to a locked file, and it is only for messages
    with explain_disk_errors(folder / name), suppress(PermissionError):
        (folder / name).write_text(json.dumps(about) + "\n", encoding="utf-8")


def _read_holder(folder: Path, name: str = LOCK) -> str:
    deadline = time.monotonic() + NAMED_WITHIN
    while not (text := _read(folder / name)).endswith("\n") and time.monotonic() < deadline:
        # it has the lock and is about to write its name
        time.sleep(0.05)
    try:
        found = json.loads(text)
        # caches of earlier versions say `host`, runs of earlier versions do not say since when
        machine = found["machine"] if "machine" in found else found["host"]
        since = f" since {found['since']}" if "since" in found else ""
        return f"process {found['process']} on {machine}{since}"
    except (ValueError, KeyError, TypeError):
        return "which has not said its name"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _gone(folder: Path, why: str) -> str:
    return (
        f"{folder} is no longer the folder that the run began in ({why}); was it moved, or its disk unmounted? Bring "
        "it back and give the same command: it goes on from the last checkpoint"
    )
