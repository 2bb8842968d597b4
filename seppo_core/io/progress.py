"""Progress bars, all of one kind."""

import sys
from typing import TextIO

from tqdm import tqdm

REFRESH_TERMINAL = 0.2
REFRESH_FILE = 10.0
"""Seconds between two refreshes where the output is not a terminal and each refresh is a line of its own."""


def progress_bar(
    total: int,
    initial: int = 0,
    *,
    unit: str,
    description: str,
    visible: bool = True,
    stream: TextIO | None = None,
    with_prefix: bool = False,
) -> tqdm:
    """A bar with rate and time left on `stream` (default: stderr), of which `initial` units are done already.

    On a terminal it is redrawn in place, in a file it prints at most one line every ten seconds. `with_prefix`
    writes thousands of units as kB, MB, …. `tqdm.write` prints a line above all bars.
    """
    stream = stream or sys.stderr
    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        unit_scale=with_prefix,
        desc=description or None,
        disable=not visible,
        dynamic_ncols=True,
        mininterval=REFRESH_TERMINAL if stream.isatty() else REFRESH_FILE,
        smoothing=0.1,
        file=stream,
    )
