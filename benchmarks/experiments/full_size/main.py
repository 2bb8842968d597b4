"""`python -m benchmarks full_size`: every family's recipe on random weights of a published base's size."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from benchmarks.experiments.full_size.cases import CASES
from seppo_core.report.status_line import StatusLines

DOCS = Path("docs")
NAME = "full_size"
NEEDED = 40e9
"""Bytes of disk for the largest base, its cache, run and export."""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 if a case failed, 2 for a mistake, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks full_size",
        description="Runs the recipe of each family on random weights of its published base's architecture: prepare, "
        "one update, export. Memory is set beside what `plan` counts. Takes about an hour and 22 GB of memory.",
        epilog="cases: " + ", ".join(f"{name} ({case.about})" for name, case in CASES.items()),
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="CASE", choices=list(CASES), help="run these cases; the others' results stay")
    add("--threads", type=int, default=2, help="of the commands (default: %(default)s)")
    add("--scratch", type=Path, default=Path("runs/full_size"), help="for bases and runs (default: %(default)s)")
    add("--out", type=Path, default=DOCS, help="folder of full_size.json and .md (default: %(default)s)")
    add("--keep", action="store_true", help="leave each case's base and run in --scratch")
    asked = parser.parse_args(argv)
    if asked.threads < 1:
        parser.error(f"--threads {asked.threads} must be at least 1")
    asked.scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(asked.scratch).free
    if free < NEEDED:
        parser.error(f"--scratch {asked.scratch} has {free / 1e9:.0f} GB left; {NEEDED / 1e9:.0f} are needed")
    try:
        return run(list(asked.only or CASES), asked.scratch.resolve(), asked.out, asked.threads, asked.keep)
    except KeyboardInterrupt:
        print("full_size: stopped; what was measured is written", file=sys.stderr)
        return 130


def run(names: list[str], scratch: Path, out: Path, threads: int, keep: bool = False) -> int:
    """Runs the cases and writes each result as it comes; 1 if any failed."""
    quiet()
    # imported late: a mistake in the call should be told before torch loads
    from benchmarks.experiments.full_size.report import as_json, markdown, read_results
    from benchmarks.experiments.full_size.run import CommandFailed, run_case
    from seppo_core.io.atomic import save_json, save_text

    results = read_results(out / f"{NAME}.json")
    line, failed, begin = StatusLines(sys.stdout, live=1, plain=60), [], time.monotonic()
    for place, name in enumerate(names):
        step, case_begin = ["start"], time.monotonic()

        def say(what: str, step: list[str] = step) -> None:
            step[0] = what

        def tick(place: int = place, name: str = name, step: list[str] = step, since: float = case_begin) -> None:
            if line.is_due():
                now = time.monotonic()
                at = f"{name} ({place + 1} of {len(names)}): {step[0]}, {now - since:.0f} s"
                line.show(f"{at}; {(now - begin) / 60:.0f} min in all")

        try:
            result = run_case(name, CASES[name], scratch, threads, say, tick, keep)
        except (CommandFailed, ValueError, OSError) as error:
            failed.append(name)
            line.say(f"{name}: {step[0]} failed: {error}")
            continue
        results[name] = result
        ordered = {key: results[key] for key in CASES if key in results}
        out.mkdir(parents=True, exist_ok=True)
        save_json(out / f"{NAME}.json", as_json(ordered))
        save_text(out / f"{NAME}.md", markdown(ordered))
        line.say(
            f"{name}: prepare {result.prepare.ratio:.2f}, sampling {result.sampling.ratio:.2f}, update "
            f"{result.update.ratio:.2f} of plan's memory; an update {result.update_seconds:.0f} s; "
            f"{time.monotonic() - case_begin:.0f} s in all"
        )
    if failed:
        print(f"full_size: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def quiet() -> None:
    """No hints and bars of libraries between the lines of this command."""
    # read when it is imported, which is when the first hints come
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import diffusers
    import transformers

    diffusers.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
