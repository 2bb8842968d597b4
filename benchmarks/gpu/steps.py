"""The steps, most worth first, and the calls that work them off."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from seppo_core.io.atomic import save_json

BASES = {
    "sd15": ("stable-diffusion-v1-5", "--height", "512"),
    "sdxl": ("stable-diffusion-xl-base-1.0", "--height", "1024"),
    "animatediff": ("stable-diffusion-v1-5", "--height", "256", "--frames", "16"),
    "flux": ("FLUX.1-dev", "--height", "1024"),
    "ltx": ("LTX-Video", "--height", "512", "--width", "704", "--frames", "49"),
    "wan": ("Wan2.1-T2V-1.3B-Diffusers", "--height", "480", "--width", "832", "--frames", "33"),
}
"""Bases of the memory and speed tables, with the options that name base and size."""
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
    """Tests of what only a card can show, memory against `plan`, then the table of speeds."""
    memory = ("-m", "benchmarks.gpu.memory", "--out", "{out}", "--base")
    speed = ("-m", "benchmarks", "speed", "--plain")
    steps = [Step("tests", ("-m", "pytest", "-n", "0", "-q", "-m", "gpu", "tests"), 240)]
    for name, line in BASES.items():
        steps.append(Step(f"memory-{name}", (*memory, *line), 120))
    # a LoRA's memory beside the plain way's
    for name in ("sd15", "sdxl"):
        for form in (("--plain",), ("--quantize", "nf4")):
            steps.append(Step(f"memory-{name}-{form[-1].strip('-')}", (*memory, *BASES[name], *form), 120))
    for form in (("--quantize", "nf4"), ("--quantize", "int8wo"), ("--offload",)):
        words = "-".join(word.strip("-") for word in form)
        steps.append(Step(f"memory-flux-{words}", (*memory, *BASES["flux"], *form), 150))
    for name, line in BASES.items():
        for tune in ("lora", "full")[: 2 if name in ("sd15", "sdxl") else 1]:
            more = ("--tune", tune, "--dtype", "bf16", "--batch", "1", "--rounds", "6", "--out", "{out}")
            steps.append(Step(f"speed-{name}-{tune}", (*speed, "--base", *line, *more), 180))
    return steps


@dataclass
class Outcome:
    """How a step ended; `code` is the command's own, or TIMED_OUT for one that took longer than a whole call."""

    code: int
    seconds: float
    tail: str


class Work:
    """The steps of a folder and what became of them, kept in `state.json` after each."""

    def __init__(self, folder: Path, steps: Sequence[Step]):
        self.folder, self.steps = folder, steps
        self.file = folder / "state.json"
        held = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}
        self.outcomes = {name: Outcome(**one) for name, one in held.items()}

    def left(self) -> list[Step]:
        """Steps without an outcome."""
        return [step for step in self.steps if step.name not in self.outcomes]

    def call(self, limit: float) -> bool:
        """Works for at most `limit` seconds; whether all steps have an outcome.

        A step that the rest of this call is too short for, as expected or as it turns out, is left to the next one,
        unless it is the call's first.
        """
        began = time.monotonic()
        for number, step in enumerate(self.left()):
            rest = limit - ENDS - (time.monotonic() - began)
            if number and step.seconds > rest:
                break
            outcome = self._run(step, rest)
            if number and outcome.code == TIMED_OUT:
                break
            self.outcomes[step.name] = outcome
            self.folder.mkdir(parents=True, exist_ok=True)
            save_json(self.file, {name: asdict(one) for name, one in self.outcomes.items()})
            print(f"{step.name}: {outcome.code}, {outcome.seconds:.0f} s", flush=True)
        return not self.left()

    def _run(self, step: Step, seconds: float) -> Outcome:
        out = self.folder / step.name
        out.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, *(word.replace("{out}", str(out)) for word in step.command)]
        began = time.monotonic()
        with (out / "log.txt").open("w", encoding="utf-8") as log:
            try:
                code = subprocess.run(
                    line, stdout=log, stderr=subprocess.STDOUT, timeout=max(1.0, seconds), check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = TIMED_OUT
        text = (out / "log.txt").read_text(encoding="utf-8", errors="replace")
        return Outcome(code, time.monotonic() - began, text[-2000:])
