"""`python -m benchmarks toy`: every method on the embedded task, in one table with intervals."""

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

from benchmarks.experiments.toy.arms import ARMS, MODALITIES, REGIME_ARMS, ROOT, TIERS
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.processes import Launcher, TaskFailed
from benchmarks.experiments.toy.regimes import REGIMES, SCALES
from seppo_core.run.eta import clock
from seppo_core.toy.captions import Modality

DEFAULT = Path("runs/toy")
STORE = Path("benchmarks/results/own")
FORMAT = 1
KIND = "seppo-toy-report"
DESCRIPTION = """\
Trains every method and ablation on the embedded task with the real commands, the learning rate of each chosen in the
same way on prompts of its own, then with several training seeds, and judges all of them by the exact score on held-out
prompts. Every run is a cell with a folder of its own: what is there is not done again, and the same command goes on
from wherever it was stopped. A table of what is there is always printed; one that is not complete says so.
"""
EPILOG = """\
  python -m benchmarks toy                             the arms that decide, then the others; hours of two cores
  python -m benchmarks toy --all                       that, then --tier C, --tier D and --regimes: whatever is left
  python -m benchmarks toy --tier A                    the arms that decide alone
  python -m benchmarks toy --tier C                    five of them on clips
  python -m benchmarks toy --tier D                    three of them from a larger base, which is trained first
  python -m benchmarks toy --modality video            every arm on clips
  python -m benchmarks toy --budget 10                 begin no cell after ten minutes; call again to go on
  python -m benchmarks toy --budget 0                  print what is there
  python -m benchmarks toy --only seppo sft --seeds 3
  python -m benchmarks toy --regimes                   six arms on other data: few, weak, longer, a strong base
"""

QUEUES = {
    "images, tiers A and B": {},
    "clips, tier C": {"tier": "C", "pages": "clips"},
    "larger base, tier D": {"tier": "D"},
    "regimes": {"regimes": True, "pages": "regimes"},
}
"""What `--all` runs, one after the other. `pages` is the folder of a report that would otherwise lie over another."""


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 however the arms compare, 1 if a cell failed, 2 for a mistake on the command line."""
    asked = _parser().parse_args(argv, argparse.Namespace(pages=""))
    try:
        return _run_all(asked) if asked.all else _run(asked)
    except (TaskFailed, ValueError, OSError) as error:
        print(f"toy: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("toy: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _run_all(asked: argparse.Namespace) -> int:
    """Every queue, whatever becomes of the one before; says of each what is left, also when it is stopped."""
    given = [name for name in ("tier", "modality", "only", "regimes", "scale") if getattr(asked, name)]
    if given:
        raise ValueError(f"--all runs every queue as it is; leave --{given[0]} out")
    started = time.monotonic()
    status = 0
    try:
        for name, options in QUEUES.items():
            print(f"\n== {name}", flush=True)
            spent = (time.monotonic() - started) / 60
            budget = None if asked.budget is None else max(0.0, asked.budget - spent)
            try:
                status = max(status, _run(argparse.Namespace(**vars(asked) | options | {"budget": budget})))
            except (TaskFailed, ValueError, OSError) as error:
                print(f"toy: {name}: {error}", file=sys.stderr)
                status = 1
    finally:
        print("\n" + "\n".join(_left(name, asked, options) for name, options in QUEUES.items()), flush=True)
    return status


def _left(name: str, asked: argparse.Namespace, options: dict) -> str:
    """What is left of a queue, as a line."""
    from benchmarks.experiments.toy.queue import left

    plan, paths, _ = _planned(argparse.Namespace(**vars(asked) | options))
    count, seconds = left(plan, paths)
    expected = f"{count} cells left, about {clock(seconds / asked.jobs)} with --jobs {asked.jobs}"
    return f"{name}: {expected if count else 'nothing left'}"


def _run(asked: argparse.Namespace) -> int:
    # imported late: all of this needs numpy and torch, and a mistake in the call should be told before they load
    from benchmarks.experiments.toy.folder import Paths
    from benchmarks.experiments.toy.queue import forget_failures
    from benchmarks.experiments.toy.sweep import PRELOAD, sweep

    plan, paths, shown = _planned(asked)
    out, store = shown.resolve(), None if asked.afresh else asked.store.resolve()
    if asked.retry:
        forget_failures(Paths(out))
    budget = None if asked.budget is None else 60 * asked.budget
    started = time.monotonic()
    done = sweep(plan, paths, Launcher(ROOT, PRELOAD), jobs=asked.jobs, budget=budget)
    elapsed = round(time.monotonic() - started, 1)
    return write_report(plan, Paths(out, store), shown / asked.pages, done, elapsed, asked.publish)


def _planned(asked: argparse.Namespace):
    """The cells that are asked for, where they lie, and the folder of that as it was named."""
    from benchmarks.experiments.toy.folder import Paths

    modality = asked.modality or MODALITIES.get(asked.tier, "image")
    if asked.tier and modality != MODALITIES[asked.tier]:
        raise ValueError(f"tier {asked.tier} is of {MODALITIES[asked.tier]}; leave --modality {modality} out")
    scale = asked.scale or ("quick" if asked.regimes else "own")
    regimes = tuple(name for name, about in REGIMES.items() if not about.own) if asked.regimes else ("own",)
    if asked.tier == "D":
        regimes = ("large",)
    arms = REGIME_ARMS if asked.regimes else TIERS[asked.tier] if asked.tier else ()
    plan = Plan(
        modality, SCALES[modality][scale], seeds=asked.seeds, regimes=regimes,
        regime_seeds=asked.regime_seeds, only=tuple(asked.only or arms),
    )  # fmt: skip
    shown = asked.out if regimes != ("large",) else asked.out / "large"
    out, store = shown.resolve(), None if asked.afresh else asked.store.resolve()
    # relative where it lies inside the checkout, where all processes run, so that folders can move
    paths = Paths(*(path.relative_to(ROOT) if path and path.is_relative_to(ROOT) else path for path in (out, store)))
    return plan, paths, shown


def write_report(plan: Plan, paths, shown: Path, done: bool, elapsed: float, publishing: bool = False) -> int:
    """Prints the table and writes report.json, report.md and index.html; 1 if a cell failed, else 0."""
    import json

    from benchmarks.experiments.toy.page import toy_page
    from benchmarks.experiments.toy.results import load_table
    from benchmarks.experiments.toy.text import markdown
    from seppo_core.io.atomic import save_json, save_text
    from seppo_core.report.page import save_page
    from seppo_core.report.provenance import provenance

    table = load_table(plan, paths)
    own = all(REGIMES[name].own for name in plan.regimes)
    name = plan.modality if plan.regimes == ("own",) else f"{plan.modality}_{plan.regimes[0] if own else 'regimes'}"
    kept = [] if paths.store is None else [paths.store / f"{name}.json"]
    # where no data have been written the last report says what they scored
    written = paths.data(plan.modality) / ("own.json" if own else "data.json")
    held = [(written, "scores"), *((path, "data") for path in kept)]
    scores = next((json.loads(path.read_text(encoding="utf-8"))[key] for path, key in held if path.is_file()), {})
    origin = {**provenance(), "elapsed_seconds": elapsed}
    report = {
        "format": FORMAT, "kind": KIND, "modality": plan.modality, "partial": table.is_partial or not done,
        "prompts": table.prompts, "noises": table.noises, "scale": vars(plan.scale), "data": scores,
        "regimes": {name: REGIMES[name].text for name in plan.regimes},
        "rows": [row.to_json() for row in table.rows],
        "comparisons": [one.to_json() for one in table.comparisons],
        "provenance": origin,
    }  # fmt: skip
    text = markdown(table, plan, scores)
    for path in (shown / "report.json", *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_json(path, report)
    save_text(shown / "report.md", text)
    save_page(shown / "index.html", toy_page(table, plan, paths, scores, origin))
    if publishing:
        from benchmarks.experiments.toy.publish import publish, publish_regimes
        from benchmarks.experiments.toy.text import how

        told = how(table, plan, scores)
        if own:
            publish(table, plan.modality, told, regime=plan.regimes[0])
        else:
            publish_regimes(table, plan.regimes, plan.modality, told)
    state = "complete" if not report["partial"] else "not complete: the same command goes on"
    print(f"\n{text}\n{state}, {clock(elapsed)} minutes now; look at {shown / 'index.html'}, numbers in report.json")
    return 1 if any(row.failures for row in table.rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks toy", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--out", type=Path, default=DEFAULT, help="folder to write (default: %(default)s)")
    add("--modality", choices=get_args(Modality), help="images, or clips (default: the tier's, else image)")
    trained = [arm for arm in ARMS if arm != "base"]
    add("--only", nargs="+", metavar="ARM", choices=trained, help=f"run these alone, of {', '.join(trained)}")
    add("--seeds", type=_positive, default=5, metavar="N", help="training seeds per arm (default: %(default)s)")
    add("--jobs", type=_positive, default=2, metavar="N", help="processes, of one thread each (default: %(default)s)")
    add("--budget", type=_minutes, metavar="MINUTES", help="begin no further cell after so long")
    add(
        "--tier",
        choices=list(TIERS),
        help="the arms that decide (A), the others (B), five of them on clips (C), or three from a larger base (D)",
    )
    add("--all", action="store_true", help="every queue, one after the other; say what is left of each")
    add("--store", type=Path, default=STORE, help="folder of finished cells' results (default: %(default)s)")
    add("--afresh", action="store_true", help="run all cells here, whatever the store holds, and add nothing to it")
    others = ", ".join(regime.text for regime in REGIMES.values() if not regime.own)
    add("--regimes", action="store_true", help=f"instead: {others}")
    add("--regime-seeds", type=_positive, default=3, metavar="N", help="training seeds there (default: %(default)s)")
    add("--scale", choices=["own", "quick", "full"], help="own, or short runs (quick), or as the configs say (full)")
    add("--publish", action="store_true", help="write table and figure into docs/which_method.md too")
    add("--retry", action="store_true", help="try cells again that failed")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value


def _minutes(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{value} must be at least 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
