"""What disturbs a run in these tests, and where it stands afterwards."""

import os
import signal
from pathlib import Path

from seppo_core.run.checkpoint import CheckpointFolder


def at(patch, owner, name: str, call: int, act) -> None:
    """Does `act()` before call number `call` (from 1) of a method."""
    original, calls = getattr(owner, name), []

    def wrapped(self, *arguments, **options):
        calls.append(1)
        if len(calls) == call:
            act()
        return original(self, *arguments, **options)

    patch.setattr(owner, name, wrapped)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def saved(run: Path) -> int:
    latest = CheckpointFolder(run / "checkpoints").latest()
    return int(latest.name.rpartition("-")[2]) if latest else 0
