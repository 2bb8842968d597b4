"""`python -m benchmarks gpu`: what one card can prove, in calls of at most seven minutes that go on."""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.steps import Work, all_steps

WHEELS = Path(__file__).with_name("wheels.txt")
PART = 64 * 2**20
"""Largest file that `--gather` leaves."""
DESCRIPTION = """\
Runs tests that need a GPU, holds `plan` against the allocator's peak for every kind of base, and measures the table of
speeds, most worth first. Each call works for at most --limit seconds; the same command goes on, until it ends with 0.
What a step printed is in OUT/STEP/log.txt, its numbers beside that. On a machine without a network gather the wheels
elsewhere, copy the folder, and install them with --install.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 if all steps passed, 1 if one failed, 75 if steps are left for another call."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/gpu"), help="folder of state and results (default: %(default)s)")
    add("--limit", type=float, default=420, metavar="SECONDS", help="of this call (default: %(default)s)")
    add("--only", nargs="+", metavar="STEP", help="these steps alone; --list names them")
    add("--list", action="store_true", help="print the steps and what became of them")
    add("--gather", type=Path, metavar="FOLDER", help="download the wheels into FOLDER, in parts of at most 64 MiB")
    add("--install", type=Path, metavar="FOLDER", help="join the parts in FOLDER and install the wheels")
    asked = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if asked.gather is not None:
        return gather(asked.gather)
    if asked.install is not None:
        return install(asked.install)
    steps = all_steps()
    unknown = set(asked.only or ()) - {step.name for step in steps}
    if unknown:
        parser.error(f"{min(unknown)} is no step; use {', '.join(step.name for step in steps)}")
    work = Work(asked.out, [step for step in steps if asked.only is None or step.name in asked.only])
    if asked.list:
        for step in work.steps:
            done = work.outcomes.get(step.name)
            print(f"{step.name:24}{'not yet' if done is None else f'exit {done.code}, {done.seconds:.0f} s'}")
        return 0
    if not work.call(asked.limit):
        print(f"{len(work.left())} steps are left; call this again")
        return 75
    return 1 if any(work.outcomes[step.name].code for step in work.steps) else 0


def gather(folder: Path) -> int:
    """Downloads the wheels of the list, which names their dependencies but torch, and splits what is too large."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--python-version", "3.12", "--platform",
        "manylinux_2_28_x86_64", "--no-deps", "-r", str(WHEELS), "-d", str(folder),
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
    """Installs the wheels of a folder without a network, and this checkout over the torch that is there."""
    join(folder)
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps"]
    wheels = [str(wheel) for wheel in sorted(folder.glob("*.whl"))]
    return subprocess.run([*pip, *wheels], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
