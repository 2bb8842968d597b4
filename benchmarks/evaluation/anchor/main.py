"""`python -m benchmarks anchor RUN`: precision and recall of s = ±1 against any scorer, over timesteps and training."""

import argparse
import sys
from pathlib import Path

from benchmarks.evaluation.anchor.limits import COUNTS, check_counts
from seppo_core.run.names import run_of

DESCRIPTION = """\
Takes a trained run and asks, for some of its winners, whether s = +1 (the reference's sample is a loser) is right: does
the reference's sample score below the policy's own for that caption, drawn from the same noise? Every checkpoint and
snapshot that is still on disk is a point of training (loop.keep_checkpoints). Stopped, it goes on.
"""
EPILOG = """\
  python -m benchmarks anchor runs/demo/image/seppo --judges toy
  python -m benchmarks anchor runs/sd15_pickapic_seppo --judges pickscore hps_v2.1 --items 256 \\
      --weights pickscore.weights=/data/PickScore_v1
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 if something is missing or fails, 2 for a mistake on the command line."""
    asked = _parser().parse_args(argv)
    try:
        check_counts(points=asked.points, **{name: vars(asked)[name] for name in COUNTS})
        if not asked.judges and not asked.plugin and asked.plugins is None:
            raise ValueError("--judges is missing: name a scorer, toy for the toy task's exact score, or a --plugin")
    except ValueError as error:
        print(f"anchor: {error}", file=sys.stderr)
        return 2
    try:
        return _run(asked)
    except (ValueError, OSError, ModuleNotFoundError, RuntimeError) as error:
        print(f"anchor: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("anchor: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _run(asked: argparse.Namespace) -> int:
    # imported late: a mistake in the call should be told before torch loads
    from benchmarks.evaluation.anchor.command import Request, examine
    from benchmarks.evaluation.anchor.report import markdown
    from benchmarks.evaluation.columns import parse_places
    from benchmarks.evaluation.metrics.catalogue import METRICS
    from seppo_core.judging.external.spec import parse_plugins

    plugins = parse_plugins(asked.plugin, asked.plugins, METRICS)
    run = run_of(asked.run)
    request = Request(
        folder=run,
        out=asked.out or run / "anchor",
        judges=tuple(asked.judges or ()),
        places=parse_places(asked.weights),
        plugins=tuple(plugins),
        reference=asked.reference,
        points=asked.points,
        items=asked.items,
        draws=asked.draws,
        bins=asked.bins,
        samples=asked.samples,
        batch_size=asked.batch_size,
        seed=asked.seed,
    )
    report = examine(request)
    print(f"\n{markdown(report)}\nanchor.json, anchor.md and anchor.html are in {request.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks anchor", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a run that was trained, or its config")
    add(
        "--judges",
        nargs="+",
        metavar="JUDGE",
        help="scorers by their column (`python -m seppo_core.judging list`), or toy",
    )
    add("--weights", nargs="+", default=[], metavar="JUDGE.PART=PLACE", help="where a judge's files are")
    add(
        "--plugin", action="append", default=[], metavar="NAME=COMMAND", help="a judge in a process, see docs/judges.md"
    )
    add("--plugins", type=Path, metavar="FILE", help="the same, several in a YAML file")
    add("--out", type=Path, help="folder of the report (default: RUN/anchor)")
    which = "the snapshot drawn for the iteration, the start, or the newest (default: %(default)s)"
    add("--reference", choices=["drawn", "initial", "latest"], default="drawn", help=which)
    add("--points", type=int, metavar="N", help="at most N moments of training, evenly spread (default: all there are)")
    for option, value, text in (
        ("--items", 128, "winners to look at"),
        ("--draws", 20, "timesteps per winner, spread evenly over the training density"),
        ("--bins", 5, "parts of the timesteps; divides --draws"),
        ("--samples", 1, "of policy and reference each, per winner; their mean scores are compared"),
        ("--batch-size", 16, "items at once"),
        ("--seed", 0, "of items, timesteps and noise"),
    ):
        add(option, type=int, default=value, help=f"{text} (default: %(default)s)")
    return parser
