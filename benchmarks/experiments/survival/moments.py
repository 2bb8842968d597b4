"""When to kill: moments drawn by seed, each waiting until the process is seen to be at what they are meant for."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.survival.places import Life

PHASES = ("preparation", "start", "generation", "step", "checkpoint", "snapshot", "anywhere", "export")
SHARES = {
    "prepare": ("preparation", "preparation", "start"),
    "train": (
        "start", "generation", "generation", "step", "step", "checkpoint", "checkpoint", "snapshot", "anywhere",
    ),
    "export": ("export", "export"),
}  # fmt: skip
"""The kills of one life, command by command."""
KILLS_IN_A_LIFE = sum(map(len, SHARES.values()))
AFTER = {
    "preparation": 0.15,
    "start": 1.5,
    "generation": 0.08,
    "step": 0.08,
    "checkpoint": 0.02,
    "snapshot": 0.01,
    "export": 0.05,
}
"""Longest wait, in seconds, once the process is seen in a phase: about as long as it stays there."""


@dataclass(frozen=True)
class Moment:
    """A kill that is planned: in which phase, after how many signs of it, and how much later."""

    phase: str
    signs: int
    wait: float
    """Seconds after the last sign, or after the start; "anywhere" is a share of the undisturbed command's time."""

    def watch(self, life: Life) -> Callable[[], bool]:
        """Tells from the files, called over and over, whether the process has come to the phase. Made before it starts:
        what lies there already is no sign."""
        starts, samples = life.starts(), life.samples()
        written = {
            folder: life.writing(folder) for folder in (life.run / "checkpoints", life.run / "pool", life.folder)
        }
        encoded = life.encoded()
        begun_at: list[int] = []

        def stepped() -> bool:
            # the start drops what was logged after the checkpoint that it goes on from
            if not begun_at and life.starts() > starts:
                begun_at.append(life.updates())
            return bool(begun_at) and life.updates() >= begun_at[0] + self.signs

        def writes(folder: Path) -> Callable[[], bool]:
            return lambda: bool(life.writing(folder) - written[folder])

        checks: dict[str, Callable[[], bool]] = {
            "preparation": lambda: life.encoded() != encoded,
            "generation": lambda: len(life.samples() - samples) >= self.signs,
            "step": stepped,
            "checkpoint": writes(life.run / "checkpoints"),
            "snapshot": writes(life.run / "pool"),
            "export": writes(life.folder),
        }
        return checks.get(self.phase, lambda: True)


def moments(seed: int, life: int, command: str) -> list[Moment]:
    """The kills of one command in one life, in the order in which they come."""
    # text, since tuples are not seeds
    draw = random.Random(f"{seed} {life} {command}")
    phases = list(SHARES[command])
    draw.shuffle(phases)
    return [Moment(phase, draw.randint(1, 2), draw.uniform(0, AFTER.get(phase, 1.0))) for phase in phases]
