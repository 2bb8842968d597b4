"""Lines that say what is going on, redrawn in place on a terminal, with lines of what is finished above them."""

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm


class StatusLines:
    """Redraws a few lines on a terminal; elsewhere, such as in a log file, prints them anew now and then.

    `live` and `plain` are the seconds between two looks on a terminal and elsewhere.
    """

    def __init__(self, stream: TextIO, live: float, plain: float, now: Callable[[], float] = time.monotonic):
        self.stream, self._now, self._live = stream, now, stream.isatty()
        self._every = live if self._live else plain
        self._last = now()
        self._bars: list[tqdm] = []

    def is_due(self) -> bool:
        """Whether enough time has passed to show the lines again."""
        return self._now() - self._last >= self._every

    def show(self, *lines: str) -> None:
        """Redraws the lines, cut to the terminal's width; elsewhere prints them."""
        self._last = self._now()
        if not self._live:
            self.say("\n".join(lines))
            return
        width = shutil.get_terminal_size().columns - 1
        while len(self._bars) > len(lines):
            self._bars.pop().close()
        while len(self._bars) < len(lines):
            self._bars.append(
                tqdm(bar_format="{desc}", file=self.stream, leave=False, position=len(self._bars), dynamic_ncols=True)
            )
        for bar, line in zip(self._bars, lines, strict=True):
            bar.set_description_str(line[:width])

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        tqdm.write(text, file=self.stream)
        self.stream.flush()

    def close(self) -> None:
        """Removes the redrawn lines."""
        while self._bars:
            self._bars.pop().close()
