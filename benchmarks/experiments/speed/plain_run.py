"""`python -m benchmarks speed --plain`: ours and the plain way in turn, with splits, memory and the bound by FLOPs."""

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.experiments.speed.bench import DTYPES, Bench, Stage
from benchmarks.experiments.speed.feeding import stand_in_cache
from benchmarks.experiments.speed.measuring import Variant, device_name, measure_memory, nothing, ratio
from benchmarks.experiments.speed.plain import GUIDANCE, PARTS, Bare, Marks, Ours, Plain
from benchmarks.experiments.speed.plain_table import table
from benchmarks.experiments.speed.runner import OUT_OF_MEMORY
from benchmarks.experiments.speed.updates import passes
from seppo_core.config.messages import first_line
from seppo_core.config.training import PreviewConfig
from seppo_core.io.atomic import save_json
from seppo_core.models.quantize import layers
from seppo_core.models.sampling import make_scheduler
from seppo_core.plan.counter import bytes_of
from seppo_core.plan.measure import measure
from seppo_core.report.provenance import provenance

ROUNDS = {"cpu": 3, "cuda": 10}
STEPS = {"ours": 20, "plain": 50}
"""Solver steps of a sample: the recommended ones, and those of the pipelines' examples."""
SOLVERS = {"ours": "dpm++", "plain": "default"}
TIMED_STEPS = 2
ITEMS = 64
"""Pairs in the cache that ours reads."""
KIND, FORMAT = "seppo-plain-speed", 2
Split = dict[str, float]


def compare(stage: Stage, described: str, rounds: int, warmup: int) -> dict[str, Any]:
    """What was measured of one subject, in seconds of an update of `stage.subject.batch` pairs."""
    with tempfile.TemporaryDirectory() as folder:
        return _compare(stage, described, rounds, warmup, Path(folder))


def _compare(stage: Stage, described: str, rounds: int, warmup: int, folder: Path) -> dict[str, Any]:
    cuda = stage.device.type == "cuda"
    # a shared CPU's clock on the wall is that of its other users too
    clock = time.perf_counter if cuda else time.process_time
    marks = Marks(clock, partial(torch.cuda.synchronize, stage.device) if cuda else nothing)
    bench, count = stage.bench(), stage.subject.batch
    if stage.recomputed:
        bench.policy.enable_gradient_checkpointing()
    cache = stand_in_cache(folder / "cache", bench, ITEMS, "pairs")
    plain = Plain(bench, count, marks)
    ways = {
        "ours": Ours(bench, count, marks, cache), "plain": plain, "bare": Bare(plain),
        "sft": Ours(bench, count, marks, cache, "sft"),
    }  # fmt: skip
    flow = bench.subject.config(stage.mode).model.spec.flow
    # a flow has one solver
    solvers = dict.fromkeys(SOLVERS, "default") if flow else SOLVERS
    updates: dict[str, list[Split]] = {name: [] for name in ways}
    drawn: dict[str, list[Split]] = {name: [] for name in solvers}
    rates: list[float] = []
    for number in range(warmup + rounds):
        rates.append(matrix_rate(stage.device, bench.precision, marks))
        for name, way in ways.items():
            marks.take()
            way.update()
            split = marks.take()
            if number >= warmup:
                updates[name].append(split)
            if name in solvers:
                way.sample(TIMED_STEPS, solvers[name])
                if number >= warmup:
                    drawn[name].append(marks.take())
    memory = {name: _memory(bench, ways[name], stage.device) for name in solvers}
    calls = {name: _calls(bench, solvers[name], STEPS[name]) for name in solvers}
    timed = {name: _calls(bench, solvers[name], TIMED_STEPS) for name in solvers}
    return {
        "subject": described,
        "tune": stage.mode,
        "precision": bench.precision,
        "clock": "seconds of the device" if cuda else "processor seconds",
        "pairs": count,
        "updates": updates,
        "drawn": drawn,
        "matrix_rates": rates,
        "solvers": {name: {"name": solvers[name], "steps": STEPS[name], "calls": calls[name]} for name in solvers},
        "calls_timed": timed,
        "memory": memory,
        "flops": flops(stage, plain, calls),
        "passes": {name: passes(bench.method(name), stage.mode, stage.recomputed) for name in ("dpo", "sft")},
    }


def summary(one: dict[str, Any]) -> dict[str, Any]:
    """The figures that follow from what `compare` recorded."""
    totals = {name: [sum(split.values()) for split in splits] for name, splits in one["updates"].items()}
    drawn = {
        name: [
            one["solvers"][name]["calls"] / one["calls_timed"][name] * split["solver"] + split.get("decoding", 0.0)
            for split in splits
        ]
        for name, splits in one["drawn"].items()
    }
    whole = {name: [a + b for a, b in zip(totals[name], drawn[name], strict=True)] for name in drawn}
    counted, rate = one["flops"], max(one["matrix_rates"])
    step, iteration = ratio(totals["plain"], totals["ours"]), ratio(whole["plain"], whole["ours"])
    dpo = ratio(totals["ours"], totals["sft"])
    # what the plain way would be to ours if ours were the bare arithmetic: not every FLOP takes the same time
    encoding = [split["data"] for split in one["updates"]["plain"]]
    arithmetic = ratio([a + b for a, b in zip(totals["bare"], encoding, strict=True)], totals["bare"])
    bound = counted["update"]["plain"] / counted["update"]["ours"]
    sampled = {name: counted["update"][name] + counted["drawing"][name] for name in drawn}
    memory = {name: one["memory"][name]["peak"] for name in drawn}
    return {
        "update_seconds": {name: median(values) for name, values in totals.items()},
        "splits": {
            name: {part: median(split.get(part, 0.0) for split in splits) for part in PARTS}
            for name, splits in one["updates"].items()
        },
        "drawing_seconds": {name: median(values) for name, values in drawn.items()},
        "pairs_per_second": {name: one["pairs"] / median(values) for name, values in totals.items()},
        "step_ratio": step.to_json(),
        "bound": bound,
        "share_of_bound": step.value / bound,
        "arithmetic": arithmetic.to_json(),
        "share_of_arithmetic": step.value / arithmetic.value,
        "overhead": ratio(totals["ours"], totals["bare"]).to_json(),
        "iteration_seconds": {name: median(values) for name, values in whole.items()},
        "iteration_ratio": iteration.to_json(),
        "iteration_bound": sampled["plain"] / sampled["ours"],
        "dpo_over_sft": dpo.to_json(),
        "dpo_over_sft_bound": {
            "flops": counted["update"]["ours"] / counted["update"]["sft"],
            "passes": one["passes"]["dpo"] / one["passes"]["sft"],
        },
        "memory_share": memory["ours"] / memory["plain"],
        "utilisation": {
            name: counted["update"][name] / median(values) / rate for name, values in totals.items()
        },
    }  # fmt: skip


def _memory(bench: Bench, way: Ours | Plain, device: torch.device) -> dict[str, Any]:
    """Bytes at the peak of an update, by part; what it makes beside gradients are activations."""
    found = measure_memory(
        Variant("update", way.update, held=lambda: [tensor for part in way.parts().values() for tensor in part]), device
    )
    parts = {name: bytes_of(tensors) for name, tensors in way.parts().items()}
    parts["gradients"] = bytes_of(bench.parameters.values())
    parts["activations"] = found.peak - sum(parts.values())
    return {**found.to_json(), "parts": parts}


def _calls(bench: Bench, solver: str, steps: int) -> int:
    """Passes of the denoiser in so many steps; some solvers add warm-up steps."""
    scheduler = make_scheduler(solver, bench.adapter.scheduler)
    return len(bench.adapter.timesteps(scheduler, steps, bench.shape, torch.device("cpu")))


def flops(stage: Stage, plain: Plain, calls: dict[str, int]) -> dict[str, dict[str, int]]:
    """FLOPs of an update and of drawing its counterparts, counted op by op on tensors without memory.

    The plain way's are ours and those of the VAE and of the text encoders, two for every weight of a matrix and token.
    """
    count, bench = stage.subject.batch, plain.bench
    config = replace(
        bench.config,
        loop=replace(bench.config.loop, micro_batch_size=count, batch_size=count,
                     gradient_checkpointing=stage.recomputed,
                     mixed_precision="no" if bench.precision == "fp32" else bench.precision),
        data=replace(bench.config.data, encode_batch_size=2 * count),
        preview=PreviewConfig(prompts=(CAPTION_PLACE,), per_prompt=count),
    )  # fmt: skip
    costs = measure(replace(config, method=bench.subject.config(stage.mode, name="dpo").method))
    sft = measure(replace(config, method=bench.subject.config(stage.mode, name="sft").method), only_step=True)
    text = 0
    for name, module in plain.encoders.pipeline.components.items():
        if name.startswith("text_encoder") and module is not None:
            tokens = max(value.shape[1] for value in bench.conditions.text.values() if value.ndim == 3)
            text += 2 * count * tokens * sum(layer.weight.numel() for _, layer in layers(module))
    ours = costs.steps[stage.recomputed].flops
    guided = 2 if GUIDANCE > 1 and bench.adapter.guidance == "cfg" else 1
    solving = {name: guided * count * costs.forward * number for name, number in calls.items()}
    return {
        "update": {
            "ours": ours, "plain": ours + costs.encoding.flops + text, "bare": ours,
            "sft": sft.steps[stage.recomputed].flops,
        },
        "drawing": {"ours": solving["ours"], "plain": solving["plain"] + costs.decoding.flops},
        "parts": {"reference": costs.step_reference, "encoding": costs.encoding.flops, "text": text,
                  "decoding": costs.decoding.flops},
    }  # fmt: skip


CAPTION_PLACE = "of no meaning: its length alone is counted"


def matrix_rate(device: torch.device, precision: str, marks: Marks) -> float:
    """FLOPs a second of the best of three products of square matrices, in the precision of the update."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    best = float("inf")
    for _ in range(3):
        marks.take()
        with marks("product"):
            a @ a
        best = min(best, max(marks.take()["product"], 1e-9))
    return 2 * size**3 / best


def run(
    stages: Iterable[tuple[Stage, str]],
    asked: argparse.Namespace,
    say: Callable[[str], None] = print,
    left: dict[str, str] | None = None,
) -> int:
    """Measures every subject, writes a dated file of each as soon as it is measured, and prints the table.

    With `left`, which holds why others are not measured, a subject that fails is put there too and the next one
    follows; the exit status is then 1.
    """
    asked.out.mkdir(parents=True, exist_ok=True)
    results, failed = [], False
    for stage, described in stages:
        rounds = asked.rounds or ROUNDS[stage.device.type]
        try:
            found = compare(stage, described, rounds, min(asked.warmup, 1))
        except Exception as error:
            if left is None:
                raise
            failed = True
            short = isinstance(error, torch.OutOfMemoryError | MemoryError)
            left[described] = OUT_OF_MEMORY if short else f"{type(error).__name__}: {first_line(error)}"
            say(f"failed: {described}: {left[described]}")
            continue
        finally:
            stage.clear()
        results.append(found | {"summary": summary(found)})
        device = device_name(stage.device)
        origin = provenance() | {"device": device}
        named = described if device == "CPU" else f"{described} {device}"
        file = asked.out / f"plain-{slug(named)}-{str(origin['started'])[:10]}.json"
        save_json(file, {"kind": KIND, "format": FORMAT, "origin": origin, "result": results[-1]})
        say(f"written: {file}")
    if results:
        say(table(results))
    for name, why in (left or {}).items():
        say(f"not measured: {name}: {why}")
    return 1 if failed else 0


def slug(described: str) -> str:
    """A description as part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", described.lower()).strip("-")
