"""`python -m benchmarks demo`: runs the plan, reports what came out, and leaves one page."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import get_args

from benchmarks.experiments.demo.display import Display, clock
from benchmarks.experiments.demo.folder import DemoFolder
from benchmarks.experiments.demo.plan import ROOT, Places, Scale, plan
from benchmarks.experiments.demo.process import Launcher
from benchmarks.experiments.demo.runner import TaskFailed, run_tasks
from benchmarks.experiments.toy.task.captions import Modality

DEFAULT = Path("runs/demo")


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status is 0 however the arms compare, and not 0 where something failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks demo",
        description="Aligns the two small bases with SePPO, SFT and SePPO without its anchor, and scores them exactly.",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT, help="folder to write (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from where an interrupted demo stopped")
    parser.add_argument("--seed", type=int, default=0, help="of data, training and samples (default: %(default)s)")
    parser.add_argument("--only", choices=get_args(Modality), help="one modality in place of both")
    parser.add_argument("--workers", type=int, help="processes at a time (default: cores, at most 4)")
    chosen = parser.parse_args(argv)
    if chosen.workers is not None and chosen.workers < 1:
        parser.error(f"--workers {chosen.workers} does nothing; give at least 1")
    modalities = (chosen.only,) if chosen.only else get_args(Modality)
    # so that the processes started here end too
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run_demo(chosen.out, modalities, chosen.seed, Scale(), chosen.resume, chosen.workers or min(4, _cores()))
    except (TaskFailed, ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped; the same command with --resume goes on from here", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def run_demo(
    out: Path, modalities: tuple[Modality, ...], seed: int, scale: Scale, resume: bool = False, workers: int = 2
) -> dict:
    """Runs all of it into `out` and returns the content of report.json."""
    started = time.monotonic()
    places = Places(_for_children(out))
    tasks = plan(places, modalities, seed, scale)
    settings = {"modalities": list(modalities), "seed": seed}
    folder = DemoFolder(out, settings, resume)
    display = Display()
    display.say(f"demo   {len(tasks)} steps, {workers} at a time, into {out}; loading the libraries")

    def finished(task, seconds: float) -> None:
        folder.finish(task.name, seconds)
        display.finished(task, seconds)

    run_tasks(
        tasks, folder.done, Places(out).log, Launcher(ROOT), workers=workers, show=display.show, finished=finished
    )
    return write_reports(out, modalities, seed, folder.done, started, workers)


def write_reports(
    out: Path, modalities: tuple[Modality, ...], seed: int, done: dict[str, float], started: float, workers: int
) -> dict:
    """Prints the tables and writes report.json and index.html."""
    # imported late: all of this needs numpy and torch, and a mistake in the call should be told before they load
    from benchmarks.experiments.demo.page import demo_page
    from benchmarks.experiments.demo.results import load_results, report_json, text_table
    from seppo_core.io.atomic import save_json
    from seppo_core.report.page import save_page
    from seppo_core.report.provenance import provenance

    results = [load_results(Places(out), modality, done) for modality in modalities]
    for result in results:
        print(f"\n{text_table(result)}")
    elapsed = round(time.monotonic() - started, 1)
    meta = {**provenance(), "seed": seed, "workers": workers, "elapsed": elapsed, "steps": done}
    report = report_json(results, meta)
    save_json(out / "report.json", report)
    shown = {key: value for key, value in meta.items() if key != "steps"} | {"elapsed": f"{clock(elapsed)} minutes"}
    save_page(out / "index.html", demo_page(results, shown, list(done.items()), workers))
    print(f"\n{clock(elapsed)} minutes in all; look at {out / 'index.html'}, numbers in {out / 'report.json'}")
    return report


def _for_children(out: Path) -> Path:
    """`out` as processes in the checkout's root find it: relative where it lies inside, so that configs can move."""
    absolute = out.resolve()
    return absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
