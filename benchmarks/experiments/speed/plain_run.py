"""`python -m benchmarks speed --plain`: ours and the plain way in turn, with splits, memory and the bound by FLOPs."""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.experiments.speed.bench import Stage
from benchmarks.experiments.speed.measuring import GIB, Variant, measure_memory, nothing, ratio
from benchmarks.experiments.speed.plain import PARTS, Marks, Ours, Plain
from seppo_core.config.training import PreviewConfig
from seppo_core.io.atomic import save_json
from seppo_core.models.quantize import matrices
from seppo_core.models.sampling import make_scheduler
from seppo_core.plan.measure import measure
from seppo_core.report.provenance import provenance
from seppo_core.report.text_table import markdown_table

ROUNDS = {"cpu": 3, "cuda": 10}
STEPS = {"ours": 20, "plain": 50}
"""Solver steps of a sample: the recommended ones, and those of the pipelines' examples."""
SOLVERS = {"ours": "dpm++", "plain": "default"}
TIMED_STEPS = 2
KIND = "seppo-plain-speed"


def compare(stage: Stage, described: str, rounds: int, warmup: int) -> dict[str, Any]:
    """What was measured of one subject, in seconds of an update of `stage.subject.batch` pairs."""
    cuda = stage.device.type == "cuda"
    # a shared CPU's clock on the wall is that of its other users too
    clock = time.perf_counter if cuda else time.process_time
    marks = Marks(clock, partial(torch.cuda.synchronize, stage.device) if cuda else nothing)
    bench, count = stage.bench(), stage.subject.batch
    ways = {"ours": Ours(bench, count, marks), "plain": Plain(bench, count, marks)}
    # a flow has one solver
    solvers = SOLVERS if not bench.subject.config(stage.mode).model.spec.flow else dict.fromkeys(SOLVERS, "default")
    updates: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    drawn: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warmup + rounds):
        for name, way in ways.items():
            marks.take()
            way.update()
            split = marks.take()
            way.sample(TIMED_STEPS, solvers[name])
            sampled = marks.take()
            if number >= warmup:
                passes = _calls(bench, solvers[name], STEPS[name]) / _calls(bench, solvers[name], TIMED_STEPS)
                updates[name].append(split)
                drawn[name].append(passes * sampled["solver"] + sampled.get("decoding", 0.0))
    memory = {
        name: measure_memory(Variant(name, way.update, held=way.held), stage.device) for name, way in ways.items()
    }
    totals = {name: [sum(split.values()) for split in splits] for name, splits in updates.items()}
    flops = _flops(stage, ways["plain"])
    whole = {name: [a + b for a, b in zip(totals[name], drawn[name], strict=True)] for name in ways}
    rate = matrix_rate(stage.device, bench.precision, clock)
    step_ratio, bound = ratio(totals["plain"], totals["ours"]), flops["plain"] / flops["ours"]
    return {
        "subject": described,
        "clock": "seconds of the device" if cuda else "processor seconds",
        "pairs": count,
        "rounds": rounds,
        "update_seconds": {name: median(values) for name, values in totals.items()},
        "splits": {
            name: {part: median(split.get(part, 0.0) for split in splits) for part in PARTS}
            for name, splits in updates.items()
        },
        "pairs_per_second": {name: count / median(values) for name, values in totals.items()},
        "step_ratio": step_ratio.to_json(),
        "bound": bound,
        "share_of_bound": step_ratio.value / bound,
        "solver_steps": STEPS,
        "iteration_seconds": {name: median(values) for name, values in whole.items()},
        "iteration_ratio": ratio(whole["plain"], whole["ours"]).to_json(),
        "memory": {name: one.to_json() for name, one in memory.items()},
        "memory_share": memory["ours"].peak / memory["plain"].peak,
        "flops": flops,
        "matrix_rate": rate,
        "utilisation": {name: flops[name] / median(totals[name]) / rate for name in ways},
    }


def _calls(bench, solver: str, steps: int) -> int:
    """Passes of the denoiser in so many steps; some solvers add warm-up steps."""
    scheduler = make_scheduler(solver, bench.adapter.scheduler)
    return len(bench.adapter.timesteps(scheduler, steps, bench.shape, torch.device("cpu")))


def _flops(stage: Stage, plain: Plain) -> dict[str, int]:
    """FLOPs of an update, counted op by op on tensors without memory: the plain way adds the VAE's and the text
    encoders', two for every weight of a matrix and token."""
    count, bench = stage.subject.batch, plain.bench
    config = replace(
        bench.config,
        loop=replace(bench.config.loop, micro_batch_size=count, batch_size=count,
                     mixed_precision="no" if bench.precision == "fp32" else bench.precision),
        data=replace(bench.config.data, encode_batch_size=2 * count),
        method=bench.subject.config(stage.mode, name="dpo").method,
        preview=PreviewConfig(),
    )  # fmt: skip
    costs = measure(config)
    text = 0
    for name, module in plain.encoders.pipeline.components.items():
        if name.startswith("text_encoder") and module is not None:
            tokens = max(value.shape[1] for value in bench.conditions.text.values() if value.ndim == 3)
            text += 2 * count * tokens * sum(linear.weight.numel() for _, linear in matrices(module))
    ours = costs.steps[False].flops
    return {"ours": ours, "plain": ours + costs.encoding.flops + text}


def matrix_rate(device: torch.device, precision: str, clock) -> float:
    """FLOPs a second of the best of five products of square matrices, in the precision of the update."""
    size = 8192 if device.type == "cuda" else 1024
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        marks = Marks(clock, partial(torch.cuda.synchronize, device) if device.type == "cuda" else nothing)
        with marks("product"):
            a @ a
        best = min(best, max(marks.take()["product"], 1e-9))
    return 2 * size**3 / best


def run(stages: list[tuple[Stage, str]], asked: argparse.Namespace) -> int:
    """Measures every subject, prints the table and writes plain.json after each."""
    asked.out.mkdir(parents=True, exist_ok=True)
    results = []
    for stage, described in stages:
        rounds = asked.rounds or ROUNDS[stage.device.type]
        results.append(compare(stage, described, rounds, min(asked.warmup, 1)))
        stage.clear()
        save_json(asked.out / "plain.json", {"kind": KIND, "origin": provenance(), "results": results})
    print(table(results))
    print(f"\nwritten to {Path(asked.out) / 'plain.json'}")
    return 0


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown, a row a subject."""
    head = [
        "subject", "update, ours (s)", "plain (s)", "ratio", "bound", "of the bound", "iteration ratio",
        "peak, ours (GiB)", "plain (GiB)", "share", "utilisation",
    ]  # fmt: skip
    rows = [
        [
            one["subject"], f"{one['update_seconds']['ours']:.3g}", f"{one['update_seconds']['plain']:.3g}",
            f"{one['step_ratio']['median']:.2f}", f"{one['bound']:.2f}", f"{one['share_of_bound']:.0%}",
            f"{one['iteration_ratio']['median']:.2f}", f"{one['memory']['ours']['peak'] / GIB:.2f}",
            f"{one['memory']['plain']['peak'] / GIB:.2f}", f"{one['memory_share']:.2f}",
            f"{one['utilisation']['ours']:.0%}",
        ]
        for one in results
    ]  # fmt: skip
    return "\n".join(markdown_table(head, rows))
