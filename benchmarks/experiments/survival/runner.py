"""Runs the commands of a life, kills them as planned, and gives the same command again until it is through."""

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from benchmarks.experiments.demo.process import Launcher
from benchmarks.experiments.survival.moments import AFTER, Moment
from benchmarks.experiments.survival.places import COMMANDS, Life

LOOK = 0.0005
LONGEST = 300.0


class CommandFailed(RuntimeError):
    """A command ended with an error of its own; the message holds the end of its log."""


@dataclass(frozen=True)
class Kill:
    """One kill, and what was there right after it."""

    life: int
    command: str
    phase: str
    after_seconds: float
    """Since the command was started."""
    updates: int
    """Updates in metrics.jsonl."""
    samples: int
    """Files in the samples' buffer."""
    half_written: list[str]


@dataclass(frozen=True)
class Course:
    """How one life went."""

    kills: list[Kill]
    missed: int
    """Moments that the command was through before."""
    starts: int
    seconds: dict[str, float]
    """Of each command's last start, which nobody killed."""


def run_life(
    life: Life, number: int, launcher: Launcher, plans: dict[str, list[Moment]], usual: dict[str, float]
) -> Course:
    """Prepares, trains and exports; `plans` names the kills of each command, `usual` its undisturbed seconds.

    Raises CommandFailed where a command that was started again does not go on.
    """
    kills: list[Kill] = []
    missed = starts = 0
    seconds: dict[str, float] = {}
    for name in COMMANDS:
        for moment in plans.get(name, []):
            starts += 1
            started = time.monotonic()
            sign = moment.watch(life)
            process = launcher.start(life.command(name), life.log)
            if _kill(process, moment, sign, started, usual.get(name, 1.0)):
                kills.append(
                    Kill(
                        number, name, moment.phase, round(time.monotonic() - started, 4), life.updates(),
                        len(life.samples()), life.half_written(),
                    )
                )  # fmt: skip
                continue
            missed += 1
            _check(process, life, name)
            # through already: there is nothing left of this command to kill
            break
        if name == "export" and life.export.exists():
            # which the command rightly refuses to write over
            continue
        starts += 1
        started = time.monotonic()
        process = launcher.start(life.command(name), life.log)
        process.join(LONGEST)
        _check(process, life, name)
        seconds[name] = round(time.monotonic() - started, 3)
    return Course(kills, missed, starts, seconds)


def _kill(process: BaseProcess, moment: Moment, sign, started: float, usual: float) -> bool:
    """Kills at the moment; False where the process ended first."""
    while not sign():
        if process.exitcode is not None:
            return False
        if time.monotonic() - started > LONGEST:
            process.kill()
            raise CommandFailed(f"nothing was seen of {moment.phase} within {LONGEST:.0f} seconds")
        time.sleep(LOOK)
    process.join(moment.wait if moment.phase in AFTER else moment.wait * usual)
    if process.exitcode is not None:
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    # it may have ended by itself in between
    return process.exitcode != 0


def _check(process: BaseProcess, life: Life, name: str) -> None:
    if process.exitcode is None:
        process.kill()
    if process.exitcode != 0:
        tail = "\n".join(life.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise CommandFailed(f"{name} ended with status {process.exitcode} in {life.folder}:\n{tail}")
