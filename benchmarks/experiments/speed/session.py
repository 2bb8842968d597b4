"""A whole run: subjects, comparisons, and the files that it leaves."""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from diffusers.utils import logging

from benchmarks.experiments.speed.bench import RECOMPUTED, Comparison, Stage, choose_tune
from benchmarks.experiments.speed.feeding import cache, loader
from benchmarks.experiments.speed.kernels import attention, compiled, layout, precision
from benchmarks.experiments.speed.measuring import Timer, device_name
from benchmarks.experiments.speed.models import Subject, default_subjects, find_subject
from benchmarks.experiments.speed.published import PUBLISHED
from benchmarks.experiments.speed.report import Report, Result, markdown, names_of
from benchmarks.experiments.speed.runner import Progress, Runner
from benchmarks.experiments.speed.updates import (
    accumulation,
    anchor,
    checkpointing,
    methods,
    offload,
    optimizer,
    parts,
    reference,
)
from seppo_core.io.atomic import save_json, save_text
from seppo_core.plan.build import build_adapter
from seppo_core.report.provenance import provenance
from seppo_core.run.eta import clock

COMPARISONS = [
    Comparison("methods", "An update by method", "What does a method cost beside supervised fine-tuning?", methods),
    Comparison("parts", "Parts of a SePPO update", "Where does the time of an update go?", parts),
    Comparison("anchor", "The averaged anchor", "What do further draws for the sign s cost?", anchor),
    Comparison(
        "accumulation", "Micro-batches at one batch size", "How much faster are larger micro-batches?", accumulation
    ),
    Comparison(
        "checkpointing", "Gradient checkpointing", "What does recomputing activations cost, and save?", checkpointing
    ),
    Comparison("attention", "Attention kernels", "Which kernel is fastest here?", attention),
    Comparison("precision", "Precision", "What does half precision gain?", precision),
    Comparison("layout", "Memory layout", "What do channels-last weights gain a UNet's convolutions?", layout),
    Comparison("compile", "torch.compile", "What does compiling the denoiser gain, and when is it earned?", compiled),
    Comparison("optimizer", "AdamW in 8 bits", "What do moments of 8 bits cost, and save?", optimizer),
    Comparison(
        "cache", "Cached latents", "What does encoding pictures in every step cost, as Diffusion-DPO's script does?",
        cache,
    ),
    Comparison("loader", "The loader", "Does a step ever wait for its batch?", loader),
    Comparison("offload", "A reference that waits on the CPU", "What does moving it cost, and save?", offload),
    Comparison("reference", "The reference of a LoRA", "Is a second LoRA slower than a copy, and smaller?", reference),
]  # fmt: skip


ROUNDS = {"cpu": 9, "cuda": 20}
SAMPLING_STEPS = {"cpu": 10, "cuda": 50}
PRECISION = {"cpu": "fp32", "cuda": "bf16"}
MEMORY = {
    "cpu": "counted tensor by tensor in a call of its own",
    "cuda": "by the allocator's peak in a call of its own",
}


class Mistake(ValueError):
    """The options cannot be met, by their values alone."""


def measure(asked: argparse.Namespace) -> int:
    """Runs what `asked` says, prints and writes the report; 1 if a comparison failed, else 0.

    Mistake if nothing can be measured as it was asked for. A KeyboardInterrupt goes on up when the report of what
    was measured is written.
    """
    # it would say of every cast that it is a cast
    logging.set_verbosity_error()
    device = _device(asked.device)
    precision = asked.dtype or PRECISION[device.type]
    if precision == "fp16" and device.type != "cuda":
        raise Mistake("--dtype fp16 needs CUDA: training in it scales its gradients; use bf16 or fp32")
    if asked.published is not None:
        return _measure_published(asked, device, precision)
    stages = [_stage(subject, device, precision, asked) for subject in _subjects(asked, device)]
    if asked.plain:
        # what the other comparisons do not need
        from benchmarks.experiments.speed.plain_run import run

        return run(stages, asked)
    plans = {stage.subject: names_of(asked.only or stage.subject.comparisons) for stage, _ in stages}
    names = list(dict.fromkeys(name for plan in plans.values() for name in plan))
    settings = _settings(asked, device, names)
    results: list[Result] = []
    began = time.monotonic()

    def save(partial: bool) -> Report:
        origin = {**provenance(), "device": settings["device_name"], "elapsed": clock(time.monotonic() - began)}
        report = Report(tuple(results), partial, settings, origin)
        save_json(asked.out / "report.json", report.to_json())
        return report

    def keep(result: Result) -> None:
        results.append(result)
        save(partial=True)

    sync = partial(torch.cuda.synchronize, device) if device.type == "cuda" else None
    timer = Timer(synchronize=sync) if sync else Timer()
    progress = Progress(sum(map(len, plans.values())))
    runner = Runner(settings["rounds"], settings["warmup"], timer, progress, keep)
    asked.out.mkdir(parents=True, exist_ok=True)
    complete = False
    try:
        for stage, described in stages:
            with tempfile.TemporaryDirectory(prefix=".speed-", dir=asked.out) as folder:
                stage.folder = Path(folder)
                for comparison in COMPARISONS:
                    if comparison.name in plans[stage.subject]:
                        runner.run(comparison, stage, described)
                stage.clear()
        complete = True
    finally:
        # Ctrl-C too leaves what there is
        if results or complete:
            _write(save(partial=not complete), asked.out, began)
    return 1 if any(result.failed for result in results) else 0


def _measure_published(asked: argparse.Namespace, device: torch.device, precision: str) -> int:
    from benchmarks.experiments.speed.plain_published import PublishedStages
    from benchmarks.experiments.speed.plain_run import run

    names = asked.published or list(PUBLISHED)
    make = partial(_stage, device=device, precision=precision, asked=asked)
    stages = PublishedStages(
        names, device, precision, asked.batch or 1, asked.rank, make, recomputed=asked.gradient_checkpointing
    )
    return run(stages, asked, left=stages.left)


def _write(report: Report, out: Path, began: float) -> None:
    text = markdown(report)
    save_text(out / "report.md", text)
    state = "not complete: it was broken off" if report.partial else "complete"
    took = clock(time.monotonic() - began)
    print(f"\n{text}\n{state}, {took} minutes; written to {out / 'report.md'}, numbers in report.json")


def _device(wanted: str) -> torch.device:
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise Mistake("--device cuda, but torch sees no CUDA device here; use --device cpu")
    return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and there) else "cpu")


def _subjects(asked: argparse.Namespace, device: torch.device) -> list[Subject]:
    chosen = {"tune": asked.tune, "batch": asked.batch, "rank": asked.rank}
    size = {"height": asked.height, "width": asked.width, "frames": asked.frames, "motion": asked.motion}
    try:
        if asked.base:
            return [find_subject(base, **size, **chosen) for base in asked.base]
        return default_subjects(device.type == "cuda", **chosen)
    except (ValueError, FileNotFoundError) as error:
        raise Mistake(str(error)) from error


def _stage(subject: Subject, device: torch.device, precision: str, asked: argparse.Namespace) -> tuple[Stage, str]:
    """The subject on its device, and all that decides its cost in words."""
    try:
        # sizes that fit no latents are refused before anything is built
        adapter = build_adapter(subject.config("lora"), torch.float32)
        adapter.latent_shape(subject.height, subject.width, subject.frames)
        mode, why = choose_tune(subject, precision, device)
    except ValueError as error:
        raise Mistake(str(error)) from error
    steps = asked.sampling_steps or SAMPLING_STEPS[device.type]
    trained = "all weights" if mode == "full" else f"LoRA of rank {subject.rank}"
    described = f"{subject.title}, {subject.size}, batch {subject.batch}, {trained}, {precision}"
    if why:
        print(f"{subject.title}: a LoRA is trained, for {why}")
    if asked.gradient_checkpointing:
        described += f", {RECOMPUTED}"
    subject = replace(subject, tune=mode)
    stage = Stage(
        subject, mode, device, precision, steps, Path(), named=bool(asked.only), recomputed=asked.gradient_checkpointing
    )
    return stage, described


def _settings(asked: argparse.Namespace, device: torch.device, names: list[str]) -> dict[str, object]:
    cuda = device.type == "cuda"
    return {
        "comparisons": names,
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 1,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "memory_in_use": None if not cuda else _in_use(device),
        "memory": MEMORY[device.type],
        "rounds": asked.rounds or ROUNDS[device.type],
        "warmup": asked.warmup,
        "sampling_steps": asked.sampling_steps or SAMPLING_STEPS[device.type],
        "tf32": {
            "matmul": torch.backends.cuda.matmul.allow_tf32, "convolutions": torch.backends.cudnn.allow_tf32,
        },
    }  # fmt: skip


def _in_use(device: torch.device) -> int:
    """Bytes of the device's memory that are taken before the run, by others and by CUDA itself."""
    free, total = torch.cuda.mem_get_info(device)
    return total - free
