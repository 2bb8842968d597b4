"""The steps, most worth first, and the calls that work them off."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.experiments.speed.published import PUBLISHED
from seppo_core.io.atomic import save_json

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"\bpytest\.mark\.gpu\b")
LONG = ("wan-14b", "cogvideox-2b", "cogvideox-5b", "cogvideox15", "hunyuan", "qwen")
"""Bases whose updates take seconds on a card: few rounds of them are timed."""
ENDS = 15
"""Seconds before a call's limit at which a step is ended, so that its state is written."""
TIMED_OUT = 124


@dataclass(frozen=True)
class Step:
    """One thing to prove: a command, and the seconds that it is expected to need."""

    name: str
    command: tuple[str, ...]
    """Arguments of `python`; {out} is the step's folder."""
    seconds: float


def all_steps() -> list[Step]:
    """Tests of what only a card can show, memory against `plan`, and the table of speeds: one base of each family
    first, then the others."""
    first = [name for name, one in PUBLISHED.items() if not one.again]
    others = [name for name, one in PUBLISHED.items() if one.again]
    steps = [tests(file) for file in marked_tests()]
    steps += [memory(name) for name in first]
    # a LoRA's memory beside the plain way's, on fewer bits, and with a base that waits
    steps += [memory(name, *form) for name in ("sd15", "sdxl") for form in (("--plain",), ("--quantize", "nf4"))]
    steps += [memory("flux", *form) for form in (("--quantize", "nf4"), ("--quantize", "int8wo"), ("--offload",))]
    steps += [speed(name, "--published", name, "--tune", "lora") for name in first]
    steps += [speed(name, *PUBLISHED[name].options(), "--tune", "full") for name in ("sd15", "sdxl")]
    steps += [memory(name) for name in others]
    return steps + [speed(name, "--published", name, "--tune", "lora") for name in others]


def marked_tests(folder: Path = ROOT / "tests") -> list[Path]:
    """The files with tests that need a GPU, found by the marker's name in their text, so that torch need not load."""
    return [file for file in sorted(folder.rglob("test_*.py")) if MARK.search(file.read_text(encoding="utf-8"))]


def tests(file: Path) -> Step:
    """A file's tests that need a GPU."""
    path = file.relative_to(ROOT)
    name = "-".join(["tests", *path.parts[1:-1], path.stem.removeprefix("test_")])
    return Step(name, ("-m", "pytest", "-n", "0", "-q", "-m", "gpu", path.as_posix()), 120)


def memory(name: str, *form: str) -> Step:
    """A base's memory beside what `plan` counts."""
    words = "-".join(word.strip("-") for word in ("memory", name, *form))
    command = ("-m", "benchmarks.gpu.memory", "--out", "{out}", *PUBLISHED[name].options(), *form)
    return Step(words.replace("quantize-", ""), command, 240 if name in LONG else 120)


def speed(name: str, *words: str) -> Step:
    """A base's row in the table of speeds."""
    more = ("--dtype", "bf16", "--batch", "1", "--rounds", "2" if name in LONG else "6", "--out", "{out}")
    command = ("-m", "benchmarks", "speed", "--plain", *words, *more)
    return Step(f"speed-{name}-{words[-1]}", command, 360 if name in LONG else 180)


@dataclass
class Outcome:
    """How a step ended; `code` is the command's own, or TIMED_OUT for one that took longer than a whole call."""

    code: int
    seconds: float
    tail: str

    @property
    def enough(self) -> float:
        """A call's limit with a fifth more time than was too little."""
        return ENDS + 1.2 * self.seconds

    def told(self) -> str:
        if self.code != TIMED_OUT:
            return f"exit {self.code}, {self.seconds:.0f} s"
        return f"timed out after {self.seconds:.0f} s; tried again once --limit is {self.enough:.0f} or more"


class Work:
    """The steps of a folder and what became of them, kept in `state.json` after each."""

    def __init__(self, folder: Path, steps: Sequence[Step]):
        self.folder, self.steps = folder, steps
        self.file = folder / "state.json"
        held = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}
        self.outcomes = {name: Outcome(**one) for name, one in held.items()}

    def left(self, limit: float = 0.0) -> list[Step]:
        """Steps without an outcome, and those that timed out in calls shorter than `limit` seconds."""
        return [step for step in self.steps if self._is_left(self.outcomes.get(step.name), limit)]

    @staticmethod
    def _is_left(outcome: Outcome | None, limit: float) -> bool:
        return outcome is None or (outcome.code == TIMED_OUT and limit >= outcome.enough)

    def call(self, limit: float) -> bool:
        """Works for at most `limit` seconds; whether nothing is left for a call of this limit.

        A step that the rest of this call is too short for, as expected or as it turns out, is left to the next one,
        unless it is the call's first.
        """
        began = time.monotonic()
        for number, step in enumerate(self.left(limit)):
            rest = limit - ENDS - (time.monotonic() - began)
            if number and step.seconds > rest:
                break
            outcome = self._run(step, rest)
            if number and outcome.code == TIMED_OUT:
                break
            self.outcomes[step.name] = outcome
            self.folder.mkdir(parents=True, exist_ok=True)
            save_json(self.file, {name: asdict(one) for name, one in self.outcomes.items()})
            print(f"{step.name}: {outcome.told()}", flush=True)
        return not self.left(limit)

    def _run(self, step: Step, seconds: float) -> Outcome:
        out = self.folder / step.name
        out.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, *(word.replace("{out}", str(out)) for word in step.command)]
        began = time.monotonic()
        with (
            (out / "log.txt").open("w", encoding="utf-8") as log,
            subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT, start_new_session=True) as process,
        ):
            try:
                code = process.wait(max(1.0, seconds))
            except subprocess.TimeoutExpired:
                code = TIMED_OUT
            finally:
                # what it started too, which would hold the card's memory
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        text = (out / "log.txt").read_text(encoding="utf-8", errors="replace")
        return Outcome(code, time.monotonic() - began, text[-2000:])

    def results(self) -> list[Path]:
        """The dated files of the steps that passed."""
        passed = [step.name for step in self.steps if (one := self.outcomes.get(step.name)) and one.code == 0]
        return [file for name in passed for file in sorted((self.folder / name).glob("*-20??-??-??.json"))]
