"""`python -m benchmarks demo` runs five arms of the comparison on both bases and writes one page."""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import get_args

from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.demo_plan import ARMS, TRAINED, DemoPaths, Scale, plan
from benchmarks.experiments.toy.demo_runner import run_tasks
from benchmarks.experiments.toy.processes import Launcher, TaskFailed
from benchmarks.experiments.toy.task.captions import Modality
from seppo_core.io.atomic import save_json
from seppo_core.run.eta import clock

DEFAULT = Path("runs/demo")
MARKER = "demo.json"
MADE_BY = "python -m benchmarks demo"


class DemoFolder:
    """Opens `out` for a run with `settings`: afresh, or on from where an interrupted demo stopped.

    A marker file proves that the demo made a folder. Only entries that it makes are removed from one, so that a file
    put there by hand stays. Raises FileExistsError for a folder that is not the demo's, and ValueError if there is
    nothing to resume or it was begun with other settings.
    """

    def __init__(self, out: Path, settings: dict, resume: bool = False):
        self.out = out
        self.marker = out / MARKER
        state = self._read()
        if resume:
            if state is None:
                raise ValueError(f"{out} holds no demo to resume; run it without --resume")
            if state["settings"] != settings:
                raise ValueError(
                    f"{out} was begun with {_told(state['settings'])}, not {_told(settings)}; resume with the same, "
                    "or begin afresh without --resume"
                )
            self.done: dict[str, float] = state["done"]
        else:
            if state is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise FileExistsError(
                    f"{out} was not made by the demo (it has no {MARKER}) and is left as it is; "
                    "name another folder with --out, or move it away"
                )
            if state is not None:
                self._clear()
            self.done = {}
        self.settings = settings
        out.mkdir(parents=True, exist_ok=True)
        self._save()

    def finish(self, task: str, seconds: float) -> None:
        """Notes that the task of this name need not be run again."""
        self.done[task] = round(seconds, 1)
        self._save()

    def _save(self) -> None:
        save_json(self.marker, {"made_by": MADE_BY, "settings": self.settings, "done": self.done})

    def _read(self) -> dict | None:
        if not self.marker.is_file():
            return None
        try:
            state = json.loads(self.marker.read_text(encoding="utf-8"))
        except ValueError:
            return None
        return state if isinstance(state, dict) and state.get("made_by") == MADE_BY else None

    def _clear(self) -> None:
        """Removes what a demo makes, and the marker last: a kill in between leaves a folder still known as ours."""
        for name in entries():
            path = self.out / name
            # a link is removed, never what it points to
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
        for modality in ("image", "video"):
            folder = self.out / modality
            if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()
        self.marker.unlink()


def entries() -> list[str]:
    """Everything that a demo makes under its folder, the marker aside."""
    names = [*(ARMS[arm].config for arm in TRAINED), "scores"]
    per_modality = [f"{modality}/{name}" for modality in ("image", "video") for name in names]
    return ["report.json", "index.html", "data", "cache", "logs", *per_modality]


def _told(settings: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status is 0 however the arms compare, and not 0 if something failed."""
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
    try:
        run_demo(chosen.out, modalities, chosen.seed, Scale(), chosen.resume, chosen.workers or min(4, _cores()))
    except (TaskFailed, ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped; the same command with --resume goes on from here", file=sys.stderr)
        return 130
    return 0


def run_demo(
    out: Path, modalities: tuple[Modality, ...], seed: int, scale: Scale, resume: bool = False, workers: int = 2
) -> dict:
    """Runs all of it into `out` and returns the content of report.json."""
    started = time.monotonic()
    paths = DemoPaths(_for_children(out))
    tasks = plan(paths, modalities, seed, scale)
    settings = {"modalities": list(modalities), "seed": seed}
    folder = DemoFolder(out, settings, resume)
    print(f"demo   {len(tasks)} steps, {workers} at a time, into {out}; loading the libraries", flush=True)
    run_tasks(tasks, folder.done, DemoPaths(out).log, Launcher(ROOT), workers=workers, finished=folder.finish)
    return write_reports(out, modalities, seed, folder.done, started, workers)


def write_reports(
    out: Path, modalities: tuple[Modality, ...], seed: int, done: dict[str, float], started: float, workers: int
) -> dict:
    """Prints the tables and writes report.json and index.html."""
    # imported late: all of this needs numpy and torch, and a mistake in the call should be told before they load
    from benchmarks.experiments.toy.demo_page import demo_page
    from benchmarks.experiments.toy.demo_results import load_results, report_json, text_table
    from seppo_core.report.page import save_page
    from seppo_core.report.provenance import provenance

    results = [load_results(DemoPaths(out), modality, done) for modality in modalities]
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
