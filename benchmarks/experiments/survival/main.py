"""`python -m benchmarks survival`: kills a small run at least N times and tells whether it came out the same."""

import argparse
import os
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.experiments.survival.run_under_test import (
    IMAGES,
    KILLS_IN_A_LIFE,
    PHASES,
    CommandFailed,
    Kill,
    LifeLog,
    RunUnderTest,
    moments,
    run_life,
)
from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.processes import Launcher

DEFAULT = Path("runs/survival")
REPORT = "report.json"
MADE = (REPORT, "data", "undisturbed")


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status is 0 if every life came out the same."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks survival",
        description="Kills a small run (kill -9) while it prepares, generates, steps, saves and exports, gives the "
        "same command again each time, and compares the end with an undisturbed run, bit for bit.",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT, help="folder to write (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=40, help="least number of kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    chosen = parser.parse_args(argv)
    if chosen.kills < 1:
        parser.error(f"--kills {chosen.kills} kills nothing; give at least 1")
    try:
        report = survive(chosen.out, chosen.kills, chosen.seed)
    except (CommandFailed, OSError) as error:
        print(f"survival: {error}", file=sys.stderr)
        return 1
    return 0 if report["equal"] else 1


def survive(out: Path, kills: int, seed: int) -> dict:
    """Runs as many lives as it takes, prints a table and returns the content of `out`/report.json.

    FileExistsError if `out` holds what was not made here.
    """
    # imported late: a mistake in the call should be told before torch loads
    from benchmarks.experiments.survival.comparison import compare
    from seppo_core.io.atomic import save_json
    from seppo_core.report.provenance import provenance

    begin = time.monotonic()
    # what a killed process holds goes with it; the tracker would list its locks as leaks
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    _clear(out)
    source = _write_images(out / "data", seed)
    launcher = Launcher(ROOT, preload=("seppo_image.commands",))
    undisturbed = RunUnderTest((out / "undisturbed").resolve(), source.resolve())
    undisturbed.write()
    print("survival   an undisturbed run first", flush=True)
    # the server imports the libraries at its first command, which is not a measure of the others
    launcher.start(("-c", "pass"), undisturbed.log).join()
    usual = run_life(undisturbed, 0, launcher, {}, {}).seconds
    courses: list[LifeLog] = []
    verdicts: list[dict[str, bool]] = []
    while sum(len(course.kills) for course in courses) < kills:
        number = len(courses) + 1
        if number > 3 * (kills // KILLS_IN_A_LIFE + 2):
            raise CommandFailed(f"after {number - 1} lives only {_count(courses)} kills struck; is this machine idle?")
        life = RunUnderTest((out / f"life-{number}").resolve(), source.resolve())
        life.write()
        plans = {command: moments(seed, number, command) for command in ("prepare", "train", "export")}
        courses.append(run_life(life, number, launcher, plans, usual))
        verdicts.append(compare(life, undisturbed))
        told = "the same" if all(verdicts[-1].values()) else f"NOT the same: {_unequal(verdicts[-1])}"
        print(f"survival   life {number}: {len(courses[-1].kills)} kills, {told}", flush=True)
    report = {
        "meta": {**provenance(), "seed": seed, "seconds": round(time.monotonic() - begin, 1)},
        "kills": sum(len(course.kills) for course in courses),
        "starts": sum(course.starts for course in courses),
        "missed": sum(course.missed for course in courses),
        "by_phase": _by_phase([kill for course in courses for kill in course.kills]),
        "equal": all(all(verdict.values()) for verdict in verdicts),
        "lives": verdicts,
        "moments": [asdict(kill) for course in courses for kill in course.kills],
    }
    save_json(out / REPORT, report)
    print("\n" + table(report) + f"\n\n{report['meta']['seconds']:.0f} seconds; all of it in {out / REPORT}")
    return report


def table(report: dict) -> str:
    """Markdown: kills by phase, and what the end is compared on."""
    rows = ["| killed during | kills | of them with something half-written |", "|---|---|---|"]
    rows += [f"| {phase} | {found['kills']} | {found['half_written']} |" for phase, found in report["by_phase"].items()]
    rows.append(f"| all | {report['kills']} | {sum(f['half_written'] for f in report['by_phase'].values())} |")
    rows.append("")
    lives = report["lives"]
    same = [name for name in lives[0] if all(life[name] for life in lives)]
    differing = [name for name in lives[0] if name not in same]
    rows.append(
        f"{report['kills']} kills in {len(lives)} lives, {report['starts']} starts of the same three commands. "
        f"The same as undisturbed, bit for bit: {', '.join(same) or 'nothing'}."
        + (f" NOT the same: {', '.join(differing)}." if differing else "")
    )
    return "\n".join(rows)


def _write_images(folder: Path, seed: int) -> Path:
    import torch

    from benchmarks.experiments.toy.task.mixture import draw_samples
    from benchmarks.experiments.toy.task.sets import write_set
    from seppo_core.toy.captions import train_captions

    captions = train_captions("image")[:IMAGES]
    pixels = draw_samples("image", captions, torch.Generator().manual_seed(seed))
    return write_set(folder, "image", pixels, captions)


def _by_phase(kills: list[Kill]) -> dict[str, dict[str, int]]:
    counts = Counter(kill.phase for kill in kills)
    broken = Counter(kill.phase for kill in kills if kill.half_written)
    return {phase: {"kills": counts[phase], "half_written": broken[phase]} for phase in PHASES if counts[phase]}


def _unequal(verdict: dict[str, bool]) -> str:
    return ", ".join(name for name, same in verdict.items() if not same)


def _count(courses: list[LifeLog]) -> int:
    return sum(len(course.kills) for course in courses)


def _clear(out: Path) -> None:
    """Makes `out` empty, if all that it holds was made here."""
    if out.is_dir():
        names = sorted(path.name for path in out.iterdir())
        foreign = [name for name in names if name not in MADE and not name.startswith("life-")]
        if foreign:
            raise FileExistsError(
                f"{out} holds files that are not of this benchmark ({foreign[0]}); name another --out"
            )
        for name in names:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)
