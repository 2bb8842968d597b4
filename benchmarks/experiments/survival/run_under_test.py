"""One life of a small run: its folder, when to kill it, its commands in turn, and what it must share with another."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.processes import Launcher
from benchmarks.experiments.toy.task.bases import image_base
from seppo_core.run.history import read_events

IMAGES = 24
COMMANDS = ("prepare", "train", "export")
CONFIG = """\
run: {life}/run
model: {{base: {base}}}
data: {{source: {source}, cache: {life}/cache, height: 16, width: 16, encode_batch_size: 4}}
method: {{name: seppo, beta: 20}}
reference_samples: {{scheduler: ddim, steps: 6, guidance_scale: 1, batch_size: 8}}
loop: {{iterations: 4, updates_per_iteration: 5, batch_size: 8, micro_batch_size: 4, checkpoint_every: 2}}
optimizer: {{lr: 1.0e-3, schedule: linear, warmup_updates: 2}}
"""
"""20 updates, checkpoints after 2, 4, 5, 6, …, four references of 40 samples each."""


@dataclass(frozen=True)
class RunUnderTest:
    """One run from preparation to export, in a folder of its own."""

    folder: Path
    source: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def export(self) -> Path:
        return self.folder / "exported"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def write(self) -> None:
        """Makes the folder, with the config in it."""
        self.folder.mkdir(parents=True)
        text = CONFIG.format(life=self.folder, base=image_base().relative_to(ROOT), source=self.source)
        self.config.write_text(text, encoding="utf-8")

    def command(self, name: str) -> tuple[str, ...]:
        """The very same words every time: what a user types again after a kill."""
        options = ("--out", str(self.export)) if name == "export" else ()
        return ("-m", "seppo_image", name, str(self.config), *options)

    def dying(self, name: str, change: int) -> tuple[str, ...]:
        """The same command, which kills itself before its change number `change` of a file in its folder."""
        _, module, *words = self.command(name)
        place = self.cache if name == "prepare" else self.run
        return ("-m", "benchmarks.experiments.survival.dying", str(place), str(change), module, *words)

    def half_written(self) -> list[str]:
        """Temporary files and folders that lie about now."""
        found = [path for path in self.folder.rglob(".*.tmp") if not any(p.suffix == ".tmp" for p in path.parents)]
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def updates(self) -> int:
        """Whole lines of metrics."""
        path = self.run / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def encoded(self) -> set[tuple[str, int]]:
        """Files of the cache as they stand, by name and time."""
        found = set()
        for name in _names(self.cache, "**/*"):
            with suppress(FileNotFoundError):
                found.add((name, Path(name).stat().st_mtime_ns))
        return found

    def starts(self) -> int:
        """How often training has begun."""
        return sum(event["event"] == "started" for event in read_events(self.run))

    def samples(self) -> set[str]:
        """Files of reference samples that lie in the buffer."""
        return set(_names(self.run / "buffer", "iteration-*/samples-*.safetensors"))

    def writing(self, folder: Path) -> set[str]:
        """Temporary names in `folder`: files that are being written, or were when a kill came."""
        return set(_names(folder, ".*.tmp"))


def _names(folder: Path, pattern: str) -> list[str]:
    try:
        return [str(path) for path in folder.glob(pattern)]
    except FileNotFoundError:
        # the process that is watched removes folders too
        return []


FIRST = "first writes"
PHASES = (FIRST, "preparation", "start", "generation", "step", "checkpoint", "snapshot", "anywhere", "export")
SHARES = {
    "prepare": ("preparation", "preparation", "start"),
    "train": (
        "start", "generation", "generation", "step", "step", "checkpoint", "checkpoint", "snapshot", "anywhere",
    ),
    "export": ("export", "export"),
}  # fmt: skip
"""The kills of one life, command by command."""
FIRST_CHANGES = {"prepare": 18, "train": 39}
"""Changes of files with which a new cache and a new run begin: their first files are made, written and renamed."""
STRIDE = 2
"""Every second of them is one life's, the others are the next one's."""
KILLS_IN_A_LIFE = sum(map(len, SHARES.values())) + sum(FIRST_CHANGES.values()) // STRIDE
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
class PlannedKill:
    """A kill that is planned: in which phase, after how many signs of it, and how much later."""

    phase: str
    signs: int
    """For the first writes the number of the change before which the process kills itself."""
    wait: float
    """Seconds after the last sign, or after the start; "anywhere" is a share of the undisturbed command's time."""

    def watch(self, life: RunUnderTest) -> Callable[[], bool]:
        """Tells from the files, called over and over, whether the process has come to the phase. Made before it starts:
        what lies there already is not a sign."""
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


def moments(seed: int, life: int, command: str) -> list[PlannedKill]:
    """The kills of one command in one life, in the order in which they come."""
    # text, since tuples are not seeds
    draw = random.Random(f"{seed} {life} {command}")
    phases = list(SHARES[command])
    draw.shuffle(phases)
    # one start after the other gets a little further into what is new
    first = range(life % STRIDE, FIRST_CHANGES.get(command, 0), STRIDE)
    return [
        *(PlannedKill(FIRST, change, 0.0) for change in first),
        *(PlannedKill(phase, draw.randint(1, 2), draw.uniform(0, AFTER.get(phase, 1.0))) for phase in phases),
    ]


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
class LifeLog:
    """How one life went."""

    kills: list[Kill]
    missed: int
    """Moments that the command was through before."""
    starts: int
    seconds: dict[str, float]
    """Seconds of each command's last start, which nobody killed."""


def run_life(
    life: RunUnderTest, number: int, launcher: Launcher, plans: dict[str, list[PlannedKill]], usual: dict[str, float]
) -> LifeLog:
    """Prepares, trains and exports; `plans` names the kills of each command, `usual` its undisturbed seconds.

    Raises CommandFailed if a command that was started again does not go on.
    """
    kills: list[Kill] = []
    missed = starts = 0
    seconds: dict[str, float] = {}
    for name in COMMANDS:
        for moment in plans.get(name, []):
            starts += 1
            started = time.monotonic()
            sign = moment.watch(life)
            by_itself = moment.phase == FIRST
            process = launcher.start(life.dying(name, moment.signs) if by_itself else life.command(name), life.log)
            if by_itself:
                process.join(LONGEST)
                killed = process.exitcode == -signal.SIGKILL
            else:
                killed = _kill(process, moment, sign, started, usual.get(name, 1.0))
            if killed:
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
    return LifeLog(kills, missed, starts, seconds)


def _kill(process: BaseProcess, moment: PlannedKill, sign, started: float, usual: float) -> bool:
    """Kills at the moment; False if the process ended first."""
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


def _check(process: BaseProcess, life: RunUnderTest, name: str) -> None:
    if process.exitcode is None:
        process.kill()
    if process.exitcode != 0:
        tail = "\n".join(life.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise CommandFailed(f"{name} ended with status {process.exitcode} in {life.folder}:\n{tail}")
