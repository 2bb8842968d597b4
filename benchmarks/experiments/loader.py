"""`python -m benchmarks loader`: does memory stay flat, and does the loader keep up with a GPU?"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

STEP = 60.0
"""Items/s to keep up with: about what supervised fine-tuning of a LoRA on SD-1.5 at 512 x 512, the fastest step of all,
may reach on one H100. An estimate, not measured here; --step takes your own (`samples_per_second` in metrics.jsonl)."""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 if memory grew by more than the limit, or a phase fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks loader", description=__doc__)
    parser.add_argument("--items", type=int, default=200_000, help="of the synthetic set (default: %(default)s)")
    parser.add_argument("--real-items", type=int, default=4_000, help="of the set with latents of 4 x 64 x 64")
    parser.add_argument("--step", type=float, default=STEP, help="items/s of the fastest step to keep up with")
    parser.add_argument("--out", type=Path, default=Path("runs/loader"), help="folder for caches and logs")
    parser.add_argument("--growth", type=float, default=150.0, help="MB of its own that a process may grow by")
    asked = parser.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        return measure(asked)
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        print(f"loader: {error}", file=sys.stderr)
        return 1


def measure(asked: argparse.Namespace) -> int:
    """Prepares and loads both sets and prints the tables; returns the exit status."""
    # imported late: a mistake in the call should be told before torch loads
    from benchmarks.experiments.loader_phases import Task, read_log
    from benchmarks.experiments.standin import STABLE_DIFFUSION, TINY

    many, real = asked.out / "many", asked.out / "real"
    task = Task(str(many), asked.items, asdict(TINY), "prepare")
    seconds = {"prepare": run("prepare", task)}
    load = replace(task, name="load", batches=asked.items // task.batch_size)
    seconds["load"] = run("load", load)
    print(f"\n| {asked.items:,} small items | items/s | own MB at 10 % | at the end | resident at most |")
    print("|---|--:|--:|--:|--:|")
    grew = 0.0
    for name in ("prepare", "load"):
        log = read_log(many / f"{name}.jsonl")
        early = next(line for line in log if line["done"] >= 0.1 * asked.items)
        grew = max(grew, log[-1]["own"] - early["own"])
        rate = asked.items / seconds[name]
        most = max(line["resident"] for line in log)
        print(f"| {name} | {rate:,.0f} | {early['own']:,.0f} | {log[-1]['own']:,.0f} | {most:,.0f} |")

    task = Task(str(real), asked.real_items, asdict(STABLE_DIFFUSION), "prepare", batch_size=32)
    run("prepare", task)
    print(f"\n| latents 4 x 64 x 64, text 77 x 768 | items/s | over a step of {asked.step:g} items/s |")
    print("|---|--:|--:|")
    for threads in (0, 1, 2, 4):
        load = replace(task, name=f"load-{threads}", batches=asked.real_items // task.batch_size, threads=threads)
        rate = load.batches * load.batch_size / run("load", load)
        how = f"{threads} threads ahead" if threads else "when asked for"
        print(f"| {how} | {rate:,.0f} | {rate / asked.step:.1f} |")
    print("\n| order of an epoch | seconds | MB |\n|---|--:|--:|")
    for length in (10**6, 10**7):
        print(f"| {length:,} items | {permutation_seconds(length):.2f} | {length * 8 / 1e6:,.0f} |")
    if grew > asked.growth:
        print(f"loader: a process grew by {grew:.0f} MB, more than --growth {asked.growth:g}", file=sys.stderr)
        return 1
    return 0


def run(phase: str, task) -> float:
    """Seconds that `phase` took in a process of its own."""
    from benchmarks.experiments.loader_phases import arguments

    Path(task.folder).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(arguments(phase, task), check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def permutation_seconds(length: int) -> float:
    """To find the first item of an epoch of `length`."""
    from seppo_core.training.batches import WinnerOrder

    began = time.perf_counter()
    WinnerOrder(length, 0).item(length - 1)
    return time.perf_counter() - began
