"""`python -m benchmarks.gpu.memory --base ID`: a LoRA update's peak memory beside what `plan` counts for it."""

import argparse
import sys
import time
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import torch

from benchmarks.experiments.speed.bench import DTYPES, Bench
from benchmarks.experiments.speed.measuring import GIB, Variant, measure_memory
from benchmarks.experiments.speed.models import Subject, default_subjects, find_subject
from seppo_core.io.atomic import save_json
from seppo_core.models.offload import OffloadedBlocks
from seppo_core.models.quantize import quantize_denoiser
from seppo_core.plan.measure import measure
from seppo_core.plan.memory import memory
from seppo_core.report.provenance import provenance

NOT_HERE = ("CUDA context, assumed",)
"""Parts of a plan that the allocator does not see."""


def compare(
    subject: Subject, device: torch.device, precision: str, quantize: str | None = None, offload: bool = False
) -> dict:
    """Bytes of one update with recomputed activations, planned and measured, and its seconds after the first."""
    bench = Bench(subject, "lora", precision, device)
    config = replace(
        bench.config,
        model=replace(bench.config.model, quantize=quantize),
        loop=replace(
            bench.config.loop, batch_size=subject.batch, micro_batch_size=subject.batch, gradient_checkpointing=True,
            mixed_precision="no" if precision == "fp32" else precision,
        ),
    )  # fmt: skip
    # the schema refuses what a subject's family cannot
    config = replace(config, model=replace(config.model, offload=offload))
    quantize_denoiser(bench.adapter, config.model, DTYPES[precision], device)
    bench.policy.enable_gradient_checkpointing()
    if offload:
        OffloadedBlocks(bench.policy, device)
    method = bench.method("seppo")
    batch = bench.batch(method, subject.batch)
    run = lambda: bench.update(method, repeat(batch))  # noqa: E731
    run()
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - began
    found = measure_memory(Variant("update", run, held=lambda: bench.held(batch, reference=bench.reference)), device)
    parts = memory(config, measure(config, only_step=True), 1)["training"]
    planned = sum(size for name, size in parts.items() if name not in NOT_HERE)
    measured = found.peak if found.allocated is None else found.allocated
    return {
        "subject": subject.title, "size": subject.size, "quantize": quantize, "offload": offload, "planned": planned,
        "measured": measured, "share": measured / planned, "seconds": seconds, "parts": parts,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.memory", description=__doc__)
    add = parser.add_argument
    add("--base", help="hub id; without it the small base of images")
    add("--height", type=int)
    add("--width", type=int)
    add("--frames", type=int)
    add("--quantize", choices=["nf4", "int8", "int8wo", "float8wo"])
    add("--offload", action="store_true")
    add("--out", type=Path, default=Path("runs/gpu"))
    asked = parser.parse_args(sys.argv[1:] if argv is None else argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked.base is None:
        subject = replace(default_subjects(cuda=False)[0], batch=1)
    else:
        size = {"height": asked.height, "width": asked.width, "frames": asked.frames}
        subject = find_subject(asked.base, **size, tune="lora", batch=1)
    precision = "bf16" if device.type == "cuda" else "fp32"
    found = compare(subject, device, precision, asked.quantize, asked.offload)
    asked.out.mkdir(parents=True, exist_ok=True)
    save_json(asked.out / "memory.json", {"kind": "seppo-gpu-memory", "origin": provenance(), **found})
    print(
        f"{subject.title}, {subject.size}: {found['measured'] / GIB:.2f} GiB measured, {found['planned'] / GIB:.2f} "
        f"planned ({found['share']:.2f}), {found['seconds']:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
