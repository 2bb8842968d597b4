"""`python -m benchmarks demo` aligns both bases in several ways, images first, and writes one page."""

import argparse
import json
import os
import shutil
import sys
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.demo_arms import FULL, RECIPES, DemoPaths, Recipe, entries
from benchmarks.experiments.toy.demo_plan import Task, plan
from benchmarks.experiments.toy.demo_runner import run_tasks
from benchmarks.experiments.toy.processes import Launcher, TaskFailed, processor_seconds
from seppo_core.io.atomic import save_json, save_text
from seppo_core.run.eta import clock
from seppo_core.toy.captions import Modality

DEFAULT = Path("runs/demo")
MARKER = "demo.json"
MADE_BY = "python -m benchmarks demo"
PRELOAD = ("seppo_image.commands", "seppo_video.commands", "benchmarks.experiments.toy.demo_warm")


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
            settings = json.loads(json.dumps(settings))  # as the marker has them
            if changed := [name for name in settings if state["settings"].get(name) != settings[name]]:
                begun, asked = (
                    ", ".join(f"{name} {of.get(name)}" for name in changed) for of in (state["settings"], settings)
                )
                raise ValueError(
                    f"{out} was begun with {begun}, not {asked}; resume with the same, or begin afresh without --resume"
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


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status is 0 however the arms compare, and not 0 if something failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks demo",
        description="Aligns two small bases, images first and clips then, with SePPO and its rivals, from "
        "preferences among the base's own samples, and judges them exactly on prompts that none was trained on.",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT, help="folder to write (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from where an interrupted demo stopped")
    parser.add_argument("--seed", type=int, default=0, help="of data, training and samples (default: %(default)s)")
    parser.add_argument("--only", choices=get_args(Modality), help="one modality in place of both")
    parser.add_argument("--full", action="store_true", help="more arms, longer training, more samples: about an hour")
    parser.add_argument("--workers", type=int, help="processes at a time (default: cores, at most 4)")
    parser.add_argument("--no-open", action="store_true", help="do not show the page in a browser at the end")
    chosen = parser.parse_args(argv)
    if chosen.workers is not None and chosen.workers < 1:
        parser.error(f"--workers {chosen.workers} does nothing; give at least 1")
    demo = Demo(
        modalities=(chosen.only,) if chosen.only else get_args(Modality),
        seed=chosen.seed,
        recipes=FULL if chosen.full else RECIPES,
    )
    try:
        run_demo(chosen.out, demo, chosen.resume, chosen.workers or min(4, _cores()))
    except (TaskFailed, ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped; the same command with --resume goes on from here", file=sys.stderr)
        return 130
    if not chosen.no_open and _has_browser():
        webbrowser.open((chosen.out / "index.html").resolve().as_uri())
    return 0


@dataclass(frozen=True)
class Demo:
    """What a demo is to do."""

    modalities: tuple[Modality, ...] = get_args(Modality)
    seed: int = 0
    recipes: dict[Modality, Recipe] = field(default_factory=lambda: dict(RECIPES))

    @property
    def settings(self) -> dict:
        """What a resumed demo must have in common with the one that was begun."""
        recipes = {modality: vars(self.recipes[modality]) for modality in self.modalities}
        return {"modalities": list(self.modalities), "seed": self.seed, "recipes": recipes}


def run_demo(out: Path, demo: Demo, resume: bool = False, workers: int = 2) -> dict:
    """Runs all of it into `out` and returns the content of report.json."""
    started = time.monotonic()
    folder = DemoFolder(out, demo.settings, resume)
    launcher = Launcher(ROOT, PRELOAD)
    launcher.warm()
    tasks = plan(DemoPaths(_for_children(out)), demo.modalities, demo.seed, demo.recipes)
    reports = Reports(out, demo, tasks, folder, started, workers)
    print(f"demo   {len(tasks)} steps, {workers} at a time; watch {out / 'index.html'}", flush=True)
    run_tasks(
        tasks, folder.done, DemoPaths(out).log, launcher, workers=workers, finished=reports.finished,
        seen=reports.progress,
    )  # fmt: skip
    return reports.write()


class Reports:
    """Writes the page while the demo runs, each modality's results as soon as they are there, and all of it in the end.

    Made while the server of the processes imports, so that its own imports cost no time.
    """

    def __init__(self, out: Path, demo: Demo, tasks: list[Task], folder: DemoFolder, started: float, workers: int):
        # imported late: all of this needs numpy, and a mistake in the call should be told before it loads
        from benchmarks.experiments.toy import demo_page, demo_picture, demo_results
        from seppo_core.report import page
        from seppo_core.report.provenance import provenance

        self.pages, self.pictures, self.results, self.page = demo_page, demo_picture, demo_results, page
        self.provenance = provenance
        self.out, self.demo, self.folder, self.started, self.workers = out, demo, folder, started, workers
        self.tasks = {modality: [t.name for t in tasks if t.modality == modality] for modality in demo.modalities}
        self.found: dict[Modality, object] = {}
        self.sections: list = []
        self.after: dict[str, float] = {}
        self.written = 0.0
        for modality in demo.modalities:
            self._look(modality, print)
        self.progress(["loading the libraries"])

    def finished(self, task: str, seconds: float, say: Callable[[str], None]) -> None:
        """Notes a task, and shows a modality's results if it was the last of them."""
        self.folder.finish(task, seconds)
        self._look(task.partition("/")[0], say)

    def progress(self, lines: list[str]) -> None:
        """Writes the unfinished page, if the last one is some seconds old."""
        if time.monotonic() - self.written < self.pages.REFRESH:
            return
        self.page.save_page(self.out / "index.html", self.pages.unfinished_page(self.sections, lines))
        self.written = time.monotonic()

    def _look(self, modality: Modality, say: Callable[[str], None]) -> None:
        if modality in self.found or not self.folder.done.keys() >= set(self.tasks[modality]):
            return
        paths = DemoPaths(self.out)
        result = self.results.load_results(paths, modality, self.demo.recipes[modality].arms, self.folder.done)
        self.found[modality] = result
        self.pictures.save_picture(result, paths.picture(modality))
        self.sections.append(self.pages.section_of(result))
        self.after[modality] = round(time.monotonic() - self.started, 1)
        self.written = 0.0
        say(f"\n{self.results.text_table(result)}")
        if _shows_colours():
            say(self.pictures.in_terminal(result))
        say(f"  {paths.picture(modality)}, {clock(self.after[modality])} minutes after the start\n")

    def write(self) -> dict:
        """Writes report.json, report.md and the finished page; returns the content of the first."""
        results = list(self.found.values())
        elapsed = round(time.monotonic() - self.started, 1)
        meta = {
            **self.provenance(), "seed": self.demo.seed, "workers": self.workers, "elapsed": elapsed,
            "after": self.after, "steps": self.folder.done, "settings": self.demo.settings,
        }  # fmt: skip
        report = self.results.report_json(results, meta)
        save_json(self.out / "report.json", report)
        done = list(self.folder.done.items())
        told = {key: value for key, value in meta.items() if key not in ("steps", "settings", "after")}
        told["elapsed"] = f"{clock(elapsed)} minutes"
        when = (
            f"`{meta['command']}` at commit `{meta['commit']}`, {self.workers} processes on {meta['cores']} cores of "
            f"{meta['processor']}: {', '.join(f'{name} after {clock(s)}' for name, s in self.after.items())} minutes."
        )
        save_text(self.out / "report.md", self.results.markdown(results, when))
        self.page.save_page(self.out / "index.html", self.pages.demo_page(results, told, done, self.workers))
        spent = processor_seconds()
        processor = "" if spent is None else f", {spent:.0f} s of processor"
        print(f"{clock(elapsed)} minutes in all{processor}; look at {self.out / 'index.html'}, numbers in report.json")
        return report


def _for_children(out: Path) -> Path:
    """`out` as processes in the checkout's root find it: relative where it lies inside, so that configs can move."""
    absolute = out.resolve()
    return absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shows_colours() -> bool:
    """Whether standard output is a terminal of 24-bit colours that wants them."""
    return (
        sys.stdout.isatty() and os.environ.get("COLORTERM") in ("truecolor", "24bit") and "NO_COLOR" not in os.environ
    )


def _has_browser() -> bool:
    """Whether somebody sits at a screen of this machine."""
    if not sys.stdout.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
