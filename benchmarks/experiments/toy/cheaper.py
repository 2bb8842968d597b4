"""`python -m benchmarks cheaper`: what samples that are used again, and other steps and guidance, cost and do.

Each variant is an arm of the comparison with one option more, at the settings that the comparison chose for the arm;
runs of one seed share data, order and draws, and are paired prompt by prompt.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.cell import ORIGIN
from benchmarks.experiments.toy.cell import main as run_cell
from benchmarks.experiments.toy.folder import CellResult, Paths, is_done, read_result, write_spec
from benchmarks.experiments.toy.main import DEFAULT, STORE
from benchmarks.experiments.toy.plan import Cell, Plan
from benchmarks.experiments.toy.queue import before
from benchmarks.experiments.toy.regimes import SCALES, Setting
from benchmarks.experiments.toy.results import over_runs
from seppo_core.io.atomic import save_json
from seppo_core.report.provenance import provenance

SETTINGS: dict[str, Setting] = {
    "indicator_initial": (1e-3, 1.0, None),
    "seppo_latest": (1e-3, 10.0, None),
    "dpo_sft": (1e-3, 10.0, 3.0),
}
"""Learning rate, beta and weight of the winner term, as tuning for the comparison found them, of `seppo_latest`
those of `seppo`."""
AS_IT_IS = "as it is"
DRAWS = {f"draws {count}": ("--loop.reference_draws", str(count)) for count in (1, 4, 16)}
SAMPLES = {f"samples {count}": ("--reference_samples.repeat_after", str(count)) for count in (1, 4)}
USES = {f"uses {count}": ("--reference_samples.uses", str(count)) for count in (2, 4)}
STEPS = {f"steps {count}": ("--reference_samples.steps", str(count)) for count in (4, 10, 20, 50)}
STEPS["dpm++ 20"] = (*STEPS["steps 20"], "--reference_samples.scheduler", "dpm++")
GUIDED = ("--reference_samples.guidance_scale", "3")
GUIDANCE = {"guided": GUIDED, "guided inside": (*GUIDED, "--reference_samples.guidance_interval", "0.2", "0.7")}
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "indicator_initial": {AS_IT_IS: (), **DRAWS, **SAMPLES, **USES, **STEPS, **GUIDANCE},
    "seppo_latest": {AS_IT_IS: (), **USES},
    "dpo_sft": {AS_IT_IS: (), **DRAWS},
}
"""Further options by arm; of the arm as it is, samples take 8 steps without guidance and every epoch has draws of its
own. What is guided is the reference's samples alone: the policy is judged as ever."""
RESULT = Path("benchmarks/results/cheaper.json")


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0, or that of the first command that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cheaper", description=__doc__)
    names = sorted({name for variants in VARIANTS.values() for name in variants})
    parser.add_argument("--out", type=Path, default=DEFAULT, help="folder of the comparison (default: %(default)s)")
    parser.add_argument("--store", type=Path, default=STORE, help="finished cells of it (default: %(default)s)")
    parser.add_argument("--arm", choices=list(VARIANTS), nargs="+", default=list(VARIANTS))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="VARIANT", help=", ".join(names))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--result", type=Path, default=RESULT, help="JSON to write (default: %(default)s)")
    asked = parser.parse_args(argv)
    plan = Plan("image", SCALES["image"]["own"])
    stored = Paths(asked.out.resolve(), asked.store.resolve())
    for seed in asked.seeds:
        for arm in asked.arm:
            for name in VARIANTS[arm]:
                cell = cell_of(plan, arm, name, seed)
                if name in asked.only and _found(stored, plan, arm, name, seed) is None:
                    print(f"{cell.label}, {name}", flush=True)
                    if status := _run(plan, stored, cell):
                        return status
                    write_result(plan, stored, asked.result)
    write_result(plan, stored, asked.result)
    return 0


def cell_of(plan: Plan, arm: str, name: str, seed: int) -> Cell:
    """The cell of a variant. Its anchor is not looked at."""
    cell = plan.cell("own", arm, SETTINGS[arm], seed, "final")
    return replace(cell, options=(*cell.options, *VARIANTS[arm][name]), anchor=None)


def _found(paths: Paths, plan: Plan, arm: str, name: str, seed: int) -> CellResult | None:
    found = read_result(paths, cell_of(plan, arm, name, seed))
    if found is None and name == AS_IT_IS:
        # the comparison's own
        found = read_result(paths, plan.cell("own", arm, SETTINGS[arm], seed, "final"))
    return found


def _run(plan: Plan, paths: Paths, cell: Cell) -> int:
    """Trains and judges a cell, after the data that it waits for."""
    while not is_done(paths, cell):
        job = before(plan, paths, cell)
        if job is not None:
            subprocess.run([sys.executable, *job.command], check=True, cwd=ROOT)
            continue
        write_spec(paths.cell(cell), cell)
        if status := run_cell([str(paths.out), str(paths.cell(cell)), str(paths.store)]):
            return status
    return 0


def write_result(plan: Plan, paths: Paths, path: Path) -> None:
    """Prints and writes what is there: means, differences to the arm as it is, and the processor's seconds."""
    rows = []
    for arm, variants in VARIANTS.items():
        runs = {
            name: {seed: found for seed in plan.seeds_of("own", arm) if (found := _found(paths, plan, arm, name, seed))}
            for name in variants
        }
        for name, found in runs.items():
            if not found:
                continue
            shared = sorted(found.keys() & runs[AS_IT_IS].keys())
            moved = [found[seed].scores.mean(1) - runs[AS_IT_IS][seed].scores.mean(1) for seed in shared]
            seconds = [one.seconds for one in found.values() if one.seconds is not None]
            rows.append({
                "arm": arm, "variant": name, "seeds": sorted(found),
                "mean": list(over_runs([one.scores.mean(1) for one in found.values()])),
                "over_as_it_is": list(over_runs(moved)) if moved and name != AS_IT_IS else None, "shared": shared,
                "seconds": sum(seconds) / len(seconds) if seconds else None,
                "curves": {seed: one.curve for seed, one in sorted(found.items())},
                "settings": SETTINGS[arm], "options": VARIANTS[arm][name],
            })  # fmt: skip
    origin = {key: value for key, value in provenance().items() if key in (*ORIGIN, "started")}
    save_json(path, {"kind": "seppo-toy-cheaper", "format": 1, "rows": rows, "provenance": origin})
    for row in rows:
        over = "" if row["over_as_it_is"] is None else "{:+.3f} ({:+.3f} to {:+.3f})".format(*row["over_as_it_is"])
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.0f} s"
        print(f"{row['arm']:18} {row['variant']:10} {row['mean'][0]:.3f}  {over:26} {seconds} {row['seeds']}")


if __name__ == "__main__":
    sys.exit(main())
