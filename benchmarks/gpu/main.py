"""`python -m benchmarks gpu`: what one card can prove, in calls of at most seven minutes that go on."""

import argparse
import re
import shutil
import subprocess
import sys
import time
from importlib import invalidate_caches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.gpu.steps import ROOT, Work, all_steps

LIST = Path(__file__).with_name("wheels.txt")
WHEELS = Path("wheels")
PART = 64 * 2**20
"""Largest file that `--gather` leaves."""
CORE = ("accelerate", "diffusers", "peft", "pytest", "transformers")
"""Packages without which no step runs."""
RESULTS = ROOT / "benchmarks" / "results"
DESCRIPTION = """\
Runs tests that need a GPU, holds `plan` against the allocator's peak for every published base, and measures the table
of speeds, most worth first. Each call works for at most --limit seconds; the same command goes on, until it ends with
something else than 75. What a step printed is in OUT/STEP/log.txt, its numbers beside that; --keep takes them to
benchmarks/results, from which `python -m tools.write_cost` writes docs/cost.md. On a machine without a network gather
the wheels elsewhere and copy the folder: a call that misses packages installs them from it.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 if all steps passed, 1 if one failed or timed out, 2 for a mistake, 75 if steps are left."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/gpu"), help="folder of state and results (default: %(default)s)")
    add("--limit", type=float, default=420, metavar="SECONDS", help="of this call (default: %(default)s)")
    add("--only", nargs="+", metavar="STEP", help="these steps alone; --list names them")
    add("--list", action="store_true", help="print the steps and what became of them")
    add("--keep", action="store_true", help="copy the results of the steps that passed to benchmarks/results")
    add("--gather", type=Path, metavar="FOLDER", help="download the wheels into FOLDER, in parts of at most 64 MiB")
    add("--wheels", type=Path, default=WHEELS, metavar="FOLDER", help="install from (default: %(default)s)")
    asked = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if asked.gather is not None:
        return gather(asked.gather)
    steps = all_steps()
    unknown = set(asked.only or ()) - {step.name for step in steps}
    if unknown:
        parser.error(f"{min(unknown)} is no step; use {', '.join(step.name for step in steps)}")
    work = Work(asked.out, [step for step in steps if asked.only is None or step.name in asked.only])
    if asked.list:
        for step in work.steps:
            done = work.outcomes.get(step.name)
            print(f"{step.name:32}{'not yet' if done is None else done.told()}")
        return 0
    if asked.keep:
        return keep(work)
    if not equipped(asked.wheels):
        return 2
    if not work.call(asked.limit - (time.monotonic() - began)):
        print(f"{len(work.left(asked.limit))} steps are left; call this again")
        return 75
    return 1 if any(work.outcomes[step.name].code for step in work.steps) else 0


def keep(work: Work) -> int:
    """Copies results to where docs/cost.md is written from, and names them."""
    for file in work.results():
        folder = RESULTS / ("gpu" if file.name.startswith("memory-") else "speed")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / file.name)
        print(f"kept: {folder.name}/{file.name}")
    return 0


def equipped(folder: Path) -> bool:
    """Whether a step can run: installs what is missing if `folder` has it, and tells in a line what still is."""
    lacking = missing()
    # names of wheels have an underscore for each hyphen
    there = {file.name.partition("-")[0].replace("_", "-").lower() for file in folder.glob("*.whl*")}
    if there & set(lacking):
        install(folder)
        invalidate_caches()
        lacking = missing()
    if lacking:
        cure = f"--gather FOLDER downloads wheels, a call with --wheels FOLDER installs them (default: {WHEELS})"
        print(f"missing or too old: {', '.join(lacking)}; {cure}", file=sys.stderr, flush=True)
    return not set(lacking) & set(CORE)


def missing() -> list[str]:
    """Packages of the list that are not installed, or older than it asks for."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    asked = [line.partition(">=") for line in lines if line and not line.startswith("#")]
    return [name for name, _, least in asked if (found := installed(name)) is None or numbers(found) < numbers(least)]


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """1.15.0 as (1, 15, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def gather(folder: Path) -> int:
    """Downloads the wheels of the list, which names their dependencies but torch, and splits what is too large."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--python-version", "3.12", "--platform",
        "manylinux_2_28_x86_64", "--no-deps", "-r", str(LIST), "-d", str(folder),
    ]  # fmt: skip
    code = subprocess.run(command, check=False).returncode
    if code:
        return code
    for wheel in sorted(folder.glob("*.whl")):
        split(wheel)
    return 0


def split(file: Path, size: int = PART) -> None:
    """Splits a file that is larger than `size` into FILE.part-000 and so on, and removes it."""
    if file.stat().st_size <= size:
        return
    with file.open("rb") as whole:
        for number, piece in enumerate(iter(lambda: whole.read(size), b"")):
            file.with_name(f"{file.name}.part-{number:03d}").write_bytes(piece)
    file.unlink()


def join(folder: Path) -> None:
    """Undoes `split` for every file in a folder."""
    for first in sorted(folder.glob("*.part-000")):
        file = first.with_name(first.name.removesuffix(".part-000"))
        parts = sorted(folder.glob(f"{file.name}.part-*"))
        with file.open("wb") as whole:
            for part in parts:
                whole.write(part.read_bytes())
        for part in parts:
            part.unlink()


def install(folder: Path) -> int:
    """Installs the wheels of a folder, without a network, beside the torch that is there; pip's exit status. The
    checkout is not installed: its commands run from its root."""
    join(folder)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    wheels = [str(wheel) for wheel in sorted(folder.glob("*.whl"))]
    return subprocess.run([*pip, *wheels], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
