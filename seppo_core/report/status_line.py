"""One line that says what is going on, redrawn in place on a terminal, with lines of what is finished above it."""

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm


class StatusLine:
    """Redraws a line on a terminal; elsewhere, such as in a log file, prints a new line now and then.

    `live` and `plain` are the seconds between two lines on a terminal and elsewhere.
    """

    def __init__(self, stream: TextIO, live: float, plain: float, now: Callable[[], float] = time.monotonic):
        self.stream, self._now = stream, now
        self._bar = tqdm(bar_format="{desc}", file=stream, leave=False) if stream.isatty() else None
        self._every = plain if self._bar is None else live
        self._last = now()

    def is_due(self) -> bool:
        """Whether enough time has passed for another line."""
        return self._now() - self._last >= self._every

    def show(self, text: str) -> None:
        """Redraws the line, cut to the terminal's width; elsewhere prints it."""
        self._last = self._now()
        if self._bar is None:
            self.say(text)
        else:
            self._bar.set_description_str(text[: shutil.get_terminal_size().columns - 1])

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        tqdm.write(text, file=self.stream)
        self.stream.flush()

    def close(self) -> None:
        """Removes the redrawn line."""
        if self._bar is not None:
            self._bar.close()
