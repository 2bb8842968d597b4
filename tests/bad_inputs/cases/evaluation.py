"""Mistakes in what is measured: arguments and prompts of `python -m benchmarks quality`."""

from functools import partial
from pathlib import Path

from tests.bad_inputs.workspace import Case


def quality(*argv: str, protocol: str = "smoke-image", file: str | None = None, text: str = ""):
    """A call of `quality run`, after a file of this name is written."""

    def act() -> list[str]:
        if file is not None:
            Path(file).write_text(text, encoding="utf-8")
        return ["run", protocol, *argv]

    return act


_case = partial(Case, "evaluation", program="quality")

CASES = [
    _case(
        "a baseline that is none of the models",
        quality("--baseline", "moevd"),
        says=r"there are base, moved, lora; did you mean moved",
    ),
    _case("a device that does not exist", quality("--device", "gpu"), says=r"use cpu, cuda, cuda:1 or mps"),
    _case("no sample at a time", quality("--batch-size", "0"), says=r"--batch-size 0 is too small; give at least 1"),
    _case("no steps", quality("--steps", "0"), says=r"--steps 0 is too small; give at least 1"),
    _case("guidance that is no number", quality("--guidance-scale", "nan"), says=r"--guidance-scale nan is no scale"),
    _case("the same seed twice", quality("--seeds", "0", "1", "0"), says=r"--seeds names 0 twice"),
    _case("frames of pictures", quality("--frames", "4"), says=r"--frames 4: smoke-image measures pictures"),
    _case("references that are not there", quality("--references", "rael"), says=r"rael: there is no such"),
    _case(
        "one prompt for intervals over prompts",
        quality("--prompts", "p.txt", file="p.txt", text="a red wall\n"),
        says=r"1 prompt to measure .* need at least 2",
    ),
    _case(
        "prompts that semicolons separate",
        quality("--prompts", "p.csv", file="p.csv", text="prompt;style\na red wall;plain\n"),
        says=r"p\.csv is separated by ';'; save it with commas",
    ),
    _case(
        "own prompts without models",
        quality("--prompts", "p.txt", protocol="own", file="p.txt", text="a red wall\na blue wall\n"),
        says=r"--models is missing",
    ),
]
