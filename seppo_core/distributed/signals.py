"""SIGTERM and SIGINT: the first one asks to save and stop, the second one stops at once. Without torch.

The exit status is 128 + the signal's number, as a shell has it: 143 after SIGTERM, 130 after SIGINT (Ctrl-C).
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ECHO = 0.5
ECHO_OF_LAUNCHER = 3.0
"""Seconds within which a further signal is the first one again: Ctrl-C reaches a whole process group, and each process
once more where torchrun or `timeout` hands it on."""


class Stopped(KeyboardInterrupt):
    """A signal ended the work in order. It is not an `Exception`, so that nothing catches it by accident."""

    def __init__(self, signum: int, detail: str = ""):
        self.signum = signum
        self.detail = detail
        super().__init__(f"stopped by {signal.Signals(signum).name}{f' {detail}' if detail else ''}")

    @property
    def status(self) -> int:
        """Exit status of the process."""
        return exit_status(self.signum)


class StopSignals:
    """A context in which a first signal is only noted; a loop calls `check` wherever it can stop in order.

    In a block of `at_once` it raises Stopped there and then, or at the block's start if it came before. A second
    signal, half a second later or more, ends the process on the spot, without tidying up: the next start removes what
    is half-written. Outside of a program's main thread, where signals cannot be caught, nothing is. The handlers of
    before are put back on leaving.
    """

    def __init__(self):
        self.received: int | None = None
        self._echo = ECHO_OF_LAUNCHER if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ECHO
        self._when = 0.0
        self._at_once = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def check(self) -> None:
        """Raises Stopped if a signal has come."""
        if self.received is not None:
            raise Stopped(self.received)

    @contextmanager
    def at_once(self, allowed: bool = True) -> Iterator[None]:
        """A context for work that a signal may interrupt anywhere, such as generating a batch of samples.

        With `allowed` false it does nothing, for processes that must stop together.
        """
        self._at_once = allowed
        try:
            if allowed:
                self.check()
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is not None:
            if now - self._when > self._echo:
                # sys.exit would run what the first signal is still busy with
                os._exit(exit_status(number))
            return
        self.received, self._when = number, now
        if self._at_once:
            raise Stopped(number)
        with suppress(OSError):
            # not print: a handler may come in the middle of one
            os.write(2, f"\n{signal.Signals(number).name}: saving; once more leaves at once, without\n".encode())


@contextmanager
def raising() -> Iterator[None]:
    """A context for commands that lose nothing if interrupted: SIGTERM raises Stopped at once, as Ctrl-C does."""

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def exit_status(signum: int) -> int:
    """Exit status of a process that signal `signum` ended."""
    return 128 + signum
