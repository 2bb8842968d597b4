"""One line about what is going on, redrawn in place on a terminal, with lines of what is finished above it."""

import shutil
import time
from collections.abc import Callable
from typing import TextIO


class StatusLine:
    """On a terminal the line is redrawn; elsewhere another one is printed now and then.

    `live` and `plain` are the seconds between two of them, there and elsewhere.
    """

    def __init__(self, stream: TextIO, live: float, plain: float, now: Callable[[], float] = time.monotonic):
        self.stream, self.live, self._now = stream, stream.isatty(), now
        self._every = live if self.live else plain
        self._last = now()
        self._drawn = False

    def is_due(self) -> bool:
        """Whether it is time to show another."""
        return self._now() - self._last >= self._every

    def show(self, text: str) -> None:
        """Redraws the line, cut to the terminal's width; elsewhere leaves one."""
        self._last = self._now()
        if not self.live:
            self.say(text)
            return
        self.clear()
        self.stream.write(text[: shutil.get_terminal_size().columns - 1])
        self.stream.flush()
        self._drawn = True

    def say(self, text: str) -> None:
        """Leaves a line for good."""
        self.clear()
        self.stream.write(text + "\n")
        self.stream.flush()

    def clear(self) -> None:
        """Takes the redrawn line away."""
        if self._drawn:
            self.stream.write("\r\x1b[K")
            self._drawn = False
