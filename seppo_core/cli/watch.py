"""`status`: the state of a run once, or again and again until the run ends."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from seppo_core.run.eta import clock
from seppo_core.run.names import run_of
from seppo_core.run.status import Status, read_status, status_text

SECONDS = 5.0
USAGE = f"""status RUN [--watch [SECONDS]] [--page]

RUN       the folder of a run, or its config
--watch   show it again every {SECONDS:g} seconds, or as many as given, until the run ends
--page    write the run's page, RUN/report.html, anew"""


def status(program: str, words: Sequence[str]) -> None:
    """The command, with its words after `status`. ValueError for words that it does not take."""
    folder, options = (words[0], list(words[1:])) if words and not words[0].startswith("-") else (None, list(words))
    if folder is None:
        raise ValueError(f"status takes one run folder, not {' '.join(words) or 'nothing'}: {program} status RUN")
    seconds = None
    if "--watch" in options:
        place = options.index("--watch")
        given = options[place + 1 : place + 2]
        taken = bool(given) and not given[0].startswith("-")
        seconds = _seconds(given[0]) if taken else SECONDS
        del options[place : place + 1 + taken]
    page = "--page" in options
    left = [word for word in options if word != "--page"]
    if left:
        raise ValueError(f"status takes one run folder, --watch and --page, not {' '.join(left)}: {program} {USAGE}")
    run = run_of(folder)
    if page:
        from seppo_core.report.run_page import write_run_page

        print(write_run_page(run))
    elif seconds is None:
        print(status_text(read_status(run)))
    else:
        watch(run, seconds, sys.stdout)


def watch(
    folder: Path, seconds: float, stream: TextIO, sleep: Callable[[float], None] = time.sleep, width: int | None = None
) -> None:
    """Shows the state of the run in `folder` every so many seconds, until it ends or Ctrl-C.

    A terminal is redrawn in place; elsewhere a line tells what is new, and the end is told whole.
    """
    live, shown, told = stream.isatty(), 0, ""
    try:
        while True:
            found = read_status(folder)
            text = status_text(found)
            if live:
                size = shutil.get_terminal_size()
                lines = [line[: (width or size.columns) - 1] for line in text.splitlines()][: size.lines - 1]
                # back to the first line of what was shown, and everything below goes
                print("\x1b[F" * shown + "\x1b[J" + "\n".join(lines), file=stream, flush=True)
                shown = len(lines)
            if found.state != "running":
                if not live:
                    print(text, file=stream, flush=True)
                return
            if not live and (line := _line(found)) != told:
                print(line, file=stream, flush=True)
                told = line
            sleep(seconds)
    except KeyboardInterrupt:
        # nothing is lost: it is the watching that ends
        return


def _line(found: Status) -> str:
    line = f"update {found.update} of {found.total}"
    if found.missing:
        line += f", {found.samples - found.missing} of {found.samples} reference samples"
    if found.left:
        line += f", {clock(found.left)} left"
    return line + "".join(f"; {alarm.gate} out of bounds" for alarm in found.standing)


def _seconds(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise ValueError(f"--watch {word} should be seconds from 0.1 to 86400, e.g. --watch 10, or stand alone")
    return seconds
