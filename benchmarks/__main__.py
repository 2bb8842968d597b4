"""`python -m benchmarks COMMAND [options]`, from a checkout. A command's module is imported only when it is called."""

import sys
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """A module whose `main(argv) -> int` runs the command, what the command does, and arguments that go first."""

    module: str
    text: str
    arguments: tuple[str, ...] = ()


TABLES = "benchmarks.evaluation.paper.tables"
COMMANDS = {
    "demo": Command(
        "benchmarks.experiments.toy.demo", "align the two small bases, score them and write runs/demo/index.html"
    ),
    "toy": Command(
        "benchmarks.experiments.toy.main",
        "compare every method on the embedded task, tuned alike, in one table with intervals",
    ),
    "cheaper": Command(
        "benchmarks.experiments.toy.cheaper",
        "what draws that come again and fewer steps of own samples cost and do on the embedded task",
    ),
    "quality": Command("benchmarks.evaluation.cli", "score models under a named protocol: run, report, doctor"),
    "ab": Command(
        "benchmarks.evaluation.human.main", "write a blind page for human judges, and turn its votes into win rates"
    ),
    "anchor": Command(
        "benchmarks.evaluation.anchor.main", "measure precision and recall of s = ±1 in a trained run by any scorer"
    ),
    "coverage": Command(
        "benchmarks.evaluation.coverage", "how often each kind of 95 % interval holds the truth, by simulation"
    ),
    "table1": Command(TABLES, "SD-1.5 on Pick-a-Pic, as published and as measured here", ("1",)),
    "table2": Command(TABLES, "SD-1.5 on the HPSv2 benchmark and PartiPrompts", ("2",)),
    "table3": Command(TABLES, "AnimateDiff on ChronoMagic-Bench-150", ("3",)),
    "table4": Command(TABLES, "the ablation", ("4",)),
    "gpu": Command("benchmarks.gpu.main", "prove on one GPU what a CPU cannot, in calls of seven minutes"),
    "speed": Command(
        "benchmarks.experiments.speed.main", "measure what training costs, part by part, as ratios within one run"
    ),
    "memory": Command(
        "benchmarks.experiments.lora_memory",
        "measure a LoRA's memory at published sizes: whole, in fewer bits, offloaded",
    ),
    "loader": Command(
        "benchmarks.experiments.loader", "measure memory and speed of prepare and of the loader over 200,000 items"
    ),
    "full_size": Command(
        "benchmarks.experiments.full_size.main",
        "run every recipe on random weights of published sizes, and compare memory with `plan`",
    ),
    "survival": Command(
        "benchmarks.experiments.survival.main",
        "kill a small run at random moments and compare its end with an undisturbed run",
    ),
    "corruption": Command(
        "benchmarks.experiments.corruption.main",
        "damage every kind of file of a base, a cache and a run, and tell what each command makes of it",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status, or 2 for a command that does not exist."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"benchmarks: {name} is not a command; use {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    return import_module(command.module).main([*command.arguments, *rest])


def usage() -> str:
    """The list of commands."""
    commands = "\n".join(f"  {name:11}{command.text}" for name, command in COMMANDS.items())
    return f"usage: python -m benchmarks COMMAND [options]\n\n{commands}\n\nCOMMAND --help lists the options of one."


if __name__ == "__main__":
    sys.exit(main())
