"""What a person sees while the demo runs: lines redrawn in place on a terminal, now and then a new one in a file."""

import shutil
import sys
import time
from typing import TextIO

from benchmarks.experiments.demo.plan import Task
from benchmarks.experiments.demo.runner import Running, State

INTERVAL = {True: 0.5, False: 10.0}  # seconds between lines, on a terminal and off it


class Display:
    """Shows every running task (stage, update, rate, time left) and the demo as a whole."""

    def __init__(self, stream: TextIO = sys.stdout):
        self.stream = stream
        self.live = stream.isatty()
        self._drawn = 0
        self._last = 0.0

    def show(self, state: State) -> None:
        """Redraws the status, if it is time to."""
        now = time.monotonic()
        if now - self._last < INTERVAL[self.live] or not state.running:
            return
        self._last = now
        lines = [task_line(item) for item in state.running] + [overall_line(state)]
        if not self.live:
            self.stream.write("\n".join(lines) + "\n")
        else:
            self._erase()
            width = shutil.get_terminal_size().columns - 1
            self.stream.write("".join(f"{line[:width]}\n" for line in lines))
            self._drawn = len(lines)
        self.stream.flush()

    def finished(self, task: Task, seconds: float) -> None:
        """Leaves a line that a task is done."""
        self.say(f"{place(task)}  {task.label}: done in {clock(seconds)}")

    def say(self, text: str) -> None:
        """Leaves a line above the status."""
        self._erase()
        self.stream.write(text + "\n")
        self.stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0


def place(task: Task) -> str:
    """The first column."""
    return f"{task.modality or 'data':5}"


def task_line(item: Running) -> str:
    """One running task: where it is, how fast, and how long it will take."""
    head = f"{place(item.task)}  {item.task.label}: "
    step, first = item.step, item.first
    if step is None or first is None:
        return f"{head}running for {clock(item.seconds)}"
    at = f"{head}{step.unit} {step.done}/{step.total}{step.note}"
    made = step.done - first.done
    speed = f", {made / item.seconds:.1f} {step.unit}s/s" if made else ""
    gained = step.share - first.share
    left = f", {clock((1 - step.share) / gained * item.seconds)} left" if gained > 0 else ""
    return f"{at} ({100 * step.share:.0f} %){speed}{left}"


def overall_line(state: State) -> str:
    """The demo as a whole."""
    left = "" if state.left is None else f", about {clock(state.left)} left"
    return f"demo   {state.finished} of {state.total} steps done, {clock(state.elapsed)} so far{left}"


def clock(seconds: float) -> str:
    """Minutes and seconds: 1:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
