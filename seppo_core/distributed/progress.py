"""How far the processes of a launch are together, told through small files beside what they write.

Files rather than collectives: a process may be minutes behind another, which would run into a collective's time limit.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from seppo_core.distributed.ranks import Ranks, exit_after_peer_failure
from seppo_core.io.atomic import save_json
from seppo_core.io.progress import progress_bar

INTERVAL = 2.0
"""Seconds between two looks at the others."""
COUNTS = ("done", "kept", "rejected", "left_out")
PATIENCE = 1800.0
"""Seconds after which a process that was not heard of is taken for dead."""


class TeamProgress:
    """Counts of all processes, a bar on the first, and waiting for one another. Used within `with`."""

    def __init__(self, folder: Path, ranks: Ranks, visible: bool):
        self.folder, self.ranks, self.visible = folder, ranks, visible and ranks.is_main
        self.counts = dict.fromkeys(COUNTS, 0)
        self._bar: tqdm | None = None
        self._phase = ""
        self._before = 0
        self._looked = float("-inf")
        self._beat = 0
        self._others: dict[int, dict] = {}
        self._heard: dict[int, tuple[int, float]] = {}

    def __enter__(self) -> "TeamProgress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace) -> None:
        if self._bar is not None:
            self._bar.close()
        if error is not None and self.ranks.world > 1:
            self._write(failed=True)
        else:
            _path(self.folder, self.ranks.rank).unlink(missing_ok=True)

    def begin(self, phase: str, total: int, done: int, unit: str) -> None:
        """A new bar, of `total` of which `done` were there before this launch."""
        if self._bar is not None:
            self._bar.close()
        self.counts = dict.fromkeys(COUNTS, 0)
        self._phase, self._before = phase, done
        self._bar = progress_bar(total, done, unit=unit, description=phase, visible=self.visible)
        self._look(at_once=True)

    def add(self, done: int, kept: int = 0, rejected: int = 0, left_out: int = 0) -> None:
        """What this process has done since it last said so."""
        for name, count in zip(COUNTS, (done, kept, rejected, left_out), strict=True):
            self.counts[name] += count
        self._look()

    def total(self, name: str) -> int:
        """Of all processes in this launch, as far as they have told."""
        same = [counts for counts in self._others.values() if counts["phase"] == self._phase]
        return self.counts[name] + sum(counts[name] for counts in same)

    def show(self, **shown: int) -> None:
        """Numbers to show behind the bar."""
        self._bar.set_postfix(shown, refresh=False)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Returns once `ready()`, which is to say that all of this phase is done; leaves where another process failed.

        TimeoutError where a process was silent for half an hour.
        """
        while not ready():
            self._look()
            time.sleep(0.05 if self.ranks.world == 1 else 0.25)
        # the others may have gone on to what comes next without a last word on this
        self._bar.update(self._bar.total - self._bar.n)

    def _look(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if self.ranks.world > 1 and (at_once or now - self._looked >= INTERVAL):
            self._looked = now
            self._write()
            for rank in range(self.ranks.world):
                if rank != self.ranks.rank:
                    self._read(rank, now)
        done = self._before + self.total("done")
        self._bar.update(done - self._bar.n)

    def _write(self, failed: bool = False) -> None:
        self._beat += 1
        about = {"phase": self._phase, "beat": self._beat, "failed": failed} | self.counts
        save_json(_path(self.folder, self.ranks.rank), about)

    def _read(self, rank: int, now: float) -> None:
        try:
            found = json.loads(_path(self.folder, rank).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found is not None:
            self._others[rank] = found
            if found["failed"]:
                exit_after_peer_failure()
        beat = -1 if found is None else found["beat"]
        if self._heard.get(rank, (None, now))[0] != beat:
            self._heard[rank] = (beat, now)
        elif now - self._heard[rank][1] > PATIENCE:
            raise TimeoutError(
                f"process {rank} of {self.ranks.world} was not heard of for {PATIENCE / 60:.0f} minutes; end what is "
                "left of this launch and give the same command again"
            )


def _path(folder: Path, rank: int) -> Path:
    return folder / f"process-{rank:05}.json"
