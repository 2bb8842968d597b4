"""Retries reading if a disk or a network fails for a moment, so that this is not taken for damage."""

import errno
import io
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from seppo_core.config.messages import first_line
from seppo_core.data.source import SourceLost

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

WAITS = (1.0, 4.0, 15.0, 40.0)
"""Seconds before each further try."""
_NUMBERS = frozenset(
    vars(errno)[name]
    for name in (
        "EIO", "ESTALE", "EREMOTEIO", "ENXIO", "ENODEV", "ENOTCONN", "ESHUTDOWN", "ECONNRESET", "ECONNABORTED",
        "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ETIMEDOUT", "EPIPE", "EAGAIN", "EBUSY",
        "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM",
    )
    # not every system has all of them
    if name in vars(errno)
)  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether `error` concerns access to the data, which may work again in a moment, and not their content.

    Decoders raise OSError for damage too, but without one of the system's numbers.
    """
    unanswered = isinstance(error, ConnectionError | TimeoutError)
    return unanswered or (isinstance(error, OSError) and error.errno in _NUMBERS)


def retry_io(read: Callable[[], T], what: str, again: Callable[[Exception], bool] = is_transient) -> T:
    """Calls `read` up to five times within a minute while it fails with an error that `again` accepts; others pass.

    Raises SourceLost if the last try fails too: an item that was not reached need not be bad.
    """
    waits = iter(WAITS)
    while True:
        try:
            return read()
        except SourceLost:
            raise
        except Exception as error:
            if not again(error):
                raise
            reason = first_line(error)
            if (wait := next(waits, None)) is None:
                raise SourceLost(
                    f"{what} cannot be reached, {len(WAITS) + 1} tries failed ({reason}); see to its disk or network "
                    "and run the same command again"
                ) from error
        print(f"{what}: {reason}; trying again in {wait:g} s", file=sys.stderr)
        time.sleep(wait)


class RemoteFile(io.RawIOBase):
    """A file of a remote file system, reopened and read again if the connection fails. Raises SourceLost in the end."""

    def __init__(self, remote: "AbstractFileSystem", path: str):
        super().__init__()
        self._remote, self._path, self._at = remote, path, 0
        self._file = retry_io(self._open, path, _unanswered)
        self.size = int(self._file.seek(0, io.SEEK_END))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        content = retry_io(lambda: self._read(size), self._path, _unanswered)
        self._at += len(content)
        return content

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()

    def _open(self):
        return self._remote.open(self._path, "rb")

    def _read(self, size: int) -> bytes:
        if self._file is None:
            self._file = self._open()
        try:
            self._file.seek(self._at)
            content = self._file.read(size)
            if len(content) < min(size, self.size - self._at):
                raise ConnectionError(f"{len(content)} of {size} bytes came")
            return content
        except Exception:
            # whatever it buffered is of no use now
            self._file = None
            raise


def _unanswered(error: Exception) -> bool:
    """Whether it is any error of a network client, in classes of its own, except that the file is not available."""
    return not isinstance(error, FileNotFoundError | PermissionError | NotImplementedError)
