"""`python -m benchmarks COMMAND [options]`, from a checkout. A command's module is imported only when it is called."""

import sys
from importlib import import_module

COMMANDS = {
    "demo": (
        "benchmarks.experiments.demo.main",
        "align the two small bases, score them and write runs/demo/index.html",
    ),
    "survival": (
        "benchmarks.experiments.survival.main",
        "kill a small run at random moments and compare its end with an undisturbed one",
    ),
    "quality": ("benchmarks.evaluation.cli", "score models under a named protocol: run, report, doctor"),
    "toy": (
        "benchmarks.experiments.toy.main",
        "every method on the embedded task, tuned alike, in one table with intervals",
    ),
    "anchor": (
        "benchmarks.evaluation.anchor.main",
        "precision and recall of s = ±1 in a trained run, against any scorer",
    ),
    "ab": ("benchmarks.evaluation.human.main", "a blind page for human judges, and its votes as win rates"),
    "loader": (
        "benchmarks.experiments.loader.main",
        "memory and speed of prepare and of the loader over 200,000 items",
    ),
    "full_size": (
        "benchmarks.experiments.full_size.main",
        "every recipe on random weights of published sizes, beside plan",
    ),
    "speed": ("benchmarks.experiments.speed.main", "what training costs, part by part, as ratios measured in one run"),
    "table1": ("benchmarks.evaluation.paper.table1", "SD-1.5 on Pick-a-Pic, as published and as measured here"),
    "table2": ("benchmarks.evaluation.paper.table2", "the same on the HPSv2 benchmark and PartiPrompts"),
    "table3": ("benchmarks.evaluation.paper.table3", "AnimateDiff on ChronoMagic-Bench-150"),
    "table4": ("benchmarks.evaluation.paper.table4", "the ablation"),
}
"""By name: the module whose `main(argv) -> int` runs the command, and what it does."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; the exit status, 2 for a command that does not exist."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"benchmarks: {name} is not a command; use {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return import_module(COMMANDS[name][0]).main(rest)


def usage() -> str:
    """What there is to call."""
    commands = "\n".join(f"  {name:11}{text}" for name, (_, text) in COMMANDS.items())
    return f"usage: python -m benchmarks COMMAND [options]\n\n{commands}\n\nCOMMAND --help lists the options of one."


if __name__ == "__main__":
    sys.exit(main())
