"""Progress of training: a live bar on a terminal, one line per update elsewhere."""

import sys
from typing import TextIO

from tqdm import tqdm

from seppo_core.io.progress import progress_bar
from seppo_core.run.eta import TimeLeft, clock

SHOWN = ("loss", "winner_error", "held_out_error", "judge_score", "share_s_plus", "margin", "grad_norm")


class UpdateDisplay:
    """Shows after every update how far training is; with `visible` false it shows nothing."""

    def __init__(
        self, pace: TimeLeft, done: int, *, description: str, visible: bool = True, stream: TextIO | None = None
    ):
        self.pace = pace
        self.stream = stream or sys.stderr
        self.visible = visible
        self._description = description
        self._live = visible and self.stream.isatty()
        self.bar: tqdm | None = None
        self._resume(done)
        if visible and not self._live:
            self.say(f"{description}: {done} of {pace.total} updates are done")

    def show(self, update: int, metrics: dict[str, float | int]) -> None:
        """After `update` (1-based), with its scalars; `seconds` among them sets the pace."""
        if "seconds" in metrics:
            self.pace.update(metrics["seconds"])
        told = {name: f"{metrics[name]:.4g}" for name in SHOWN if name in metrics}
        if metrics.get("skipped"):
            told["skipped"] = str(metrics["skipped"])
        left = self.pace.left(update)
        self._resume(update - 1)
        if self.bar is not None:
            self.bar.set_postfix(told | ({} if left is None else {"left": clock(left)}), refresh=False)
            self.bar.update()
        elif self.visible:
            values = "  ".join(f"{name} {value}" for name, value in told.items())
            tail = "" if left is None else f"  {metrics.get('seconds', 0):.2f} s  {clock(left)} left"
            self.say(f"update {update}/{self.pace.total}  {values}{tail}")

    def pause(self) -> None:
        """Takes the bar away until the next update, so that another one stands alone."""
        if self.bar is not None:
            self.bar.leave = False
            self.bar.close()
            self.bar = None

    def _resume(self, done: int) -> None:
        if self._live and self.bar is None:
            self.bar = progress_bar(
                self.pace.total, done, unit="update", description=self._description, stream=self.stream
            )

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        elif self.visible:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
