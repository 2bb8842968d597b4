"""Reading what a strange process prints, in bounded memory and on bounded disk, however much that is."""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

TAIL = 1_000_000
"""Bytes kept of an output's end."""
LOG_MOST = 16_000_000
"""Bytes of words that one process may write into a log; the rest is read and forgotten."""
PRINTED_MOST = 64_000_000
"""Bytes after which a process that was asked for one line is ended."""
JOIN_SECONDS = 5.0


class Drain(threading.Thread):
    """Reads a pipe to its end, keeps the last of it, and copies its beginning into a log."""

    def __init__(self, pipe: BinaryIO, log: BinaryIO | None = None, most: int | None = None):
        """`most` bytes are read at most, as if the pipe ended there."""
        super().__init__(daemon=True)
        self.pipe, self.log, self.most = pipe, log, most
        self.read = 0
        self._tail = bytearray()

    def run(self) -> None:
        with self.pipe:
            while (self.most is None or self.read < self.most) and (piece := self.pipe.read1(65536)):
                self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        if self.log is not None and self.read < LOG_MOST:
            self.log.write(piece[: LOG_MOST - self.read])
            if self.read + len(piece) >= LOG_MOST:
                self.log.write(f"\n… cut after {LOG_MOST // 1_000_000} MB\n".encode())
            self.log.flush()
        self.read += len(piece)
        self._tail += piece
        del self._tail[:-TAIL]

    @property
    def text(self) -> str:
        """The end of what was read."""
        return bytes(self._tail).decode("utf-8", "replace")


class Printed(NamedTuple):
    """What a process that ended had printed."""

    status: int
    output: str
    errors: str


def printed(command: Sequence[str], seconds: float) -> Printed:
    """Runs `command` without input. TimeoutError, with a reason, if it takes or prints too much; it is ended then."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    output, errors = Drain(process.stdout, most=PRINTED_MOST), Drain(process.stderr)
    output.start()
    errors.start()
    try:
        output.join(seconds)
        if output.read >= PRINTED_MOST:
            raise TimeoutError(f"it prints more than {PRINTED_MOST // 1_000_000} MB")
        if output.is_alive():
            raise TimeoutError(f"no answer in {seconds:g} s")
        try:
            status = process.wait(JOIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError("it closed its output and did not end") from None
    finally:
        end(process, errors)
    return Printed(status, output.text, errors.text)


def end(process: subprocess.Popen, *readers: threading.Thread) -> None:
    """Ends the process and whatever it started that still holds one of the pipes that `readers` read."""
    if process.poll() is None or any(reader.is_alive() for reader in readers):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        process.wait()
    for reader in readers:
        reader.join(JOIN_SECONDS)


def log_of(path: Path) -> BinaryIO:
    """The log at `path`, to append to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")
