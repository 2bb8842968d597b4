"""Atomic writes: a file or a folder is there completely or not at all."""

import errno
import glob
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from seppo_core.io.disk_errors import explain_disk_errors

if TYPE_CHECKING:
    from torch import Tensor

MACHINE = blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
"""Part of the names of temporary files: machines share folders, but not process numbers."""
ABANDONED = 24 * 3600
"""Seconds after which another machine's temporary file counts as abandoned: whether its process lives is not known."""

_NO_FLUSH = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
"""Errors of a file system that does not flush on request, as some network file systems."""
_unflushed: set[int] = set()
"""Disks of which this process has said so."""


UMASK = os.umask(0o022)
"""The user's, read once: it can only be read by setting it."""
os.umask(UMASK)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on leaving it is flushed to disk and renamed, on an error removed.

    Raises DiskError if the disk refuses to write.
    """
    temporary = _temporary(path)
    try:
        # inside, so that a full disk is recognised before the incomplete file is removed
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path)
            yield temporary
            _open_to_others(temporary)
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, renamed to it on leaving. Raises FileExistsError if `path` exists."""
    if path.exists():
        raise FileExistsError(f"{path} exists already and is not overwritten; name another folder or move it away")
    temporary = _temporary(path)
    try:
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                _open_to_others(file)
                _flush(file)
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_tensors(path: Path, tensors: "dict[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file atomically."""
    # imported here, so that the rest of the file needs no torch
    from safetensors.torch import save_file

    with whole_file(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def save_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: Path, content: dict | list) -> None:
    """Writes a JSON file atomically."""
    save_text(path, json.dumps(content, indent=1) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files and folders that a killed process left in `folder`."""
    for path in folder.glob(".*.tmp"):
        remove: Callable[[Path], None] = shutil.rmtree if path.is_dir() else Path.unlink
        remove(path)


def _open_to_others(path: Path) -> None:
    """Gives a file that a library wrote for its owner alone, as safetensors does, the rights of any other new file."""
    if path.is_file() and path.stat().st_mode & 0o777 == 0o600:
        path.chmod(0o666 & ~UMASK)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{MACHINE}-{os.getpid()}.tmp")


def _remove_abandoned(path: Path) -> None:
    """Removes what killed processes left of earlier attempts to write `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*-*.tmp"):
        machine, _, process = left.name.removeprefix(f".{path.name}.").removesuffix(".tmp").partition("-")
        if process.isdecimal() and _is_abandoned(left, machine, int(process)):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _is_abandoned(left: Path, machine: str, process: int) -> bool:
    if machine == MACHINE:
        return process != os.getpid() and not is_alive(process)
    with suppress(FileNotFoundError):
        return time.time() - left.stat().st_mtime > ABANDONED
    return False


def is_alive(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    if os.name == "nt":
        # on Windows, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        # Windows cannot open folders
        return
    # Windows flushes only what is open for writing
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        flush(descriptor, path)
    finally:
        os.close(descriptor)


def flush(descriptor: int, path: Path) -> None:
    """Flushes a file or folder to disk; where the file system cannot, it goes on, and says so once for each disk."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
        if not path.is_dir() and (disk := path.stat().st_dev) not in _unflushed:
            _unflushed.add(disk)
            print(
                f"{path} cannot be flushed to disk ({error.strerror}), as on some network disks; going on: a power cut "
                "can lose the newest files there, a killed process none",
                file=sys.stderr,
            )
