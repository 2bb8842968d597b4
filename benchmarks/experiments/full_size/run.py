"""One case from a folder of random weights to an export, by the commands that a user types."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from benchmarks.experiments.full_size.base import denoiser_of, numbers_on_disk, write_base, write_single
from benchmarks.experiments.full_size.cases import Case
from benchmarks.experiments.full_size.report import Beside, Result
from benchmarks.experiments.speed.models import BASES
from benchmarks.experiments.toy.task.sets import write_set
from seppo_core.config.loader import load_config
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import Config
from seppo_core.io.versions import environment
from seppo_core.plan.architecture import pipeline_architecture
from seppo_core.plan.estimate import make_plan
from seppo_core.plan.memory import CONTEXT
from seppo_core.plan.result import Plan
from seppo_core.report.provenance import processor
from seppo_core.run.checkpoint import CheckpointFolder, load_checkpoint
from seppo_core.run.history import read_events, read_metrics
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig


def memory_of(process: int | str = "self") -> dict[str, int]:
    """Bytes by field of /proc/PROCESS/status, such as VmRSS (resident now) and VmHWM (at most so far).

    Empty for a process that has ended; FileNotFoundError for one that is gone, or on systems without /proc.
    """
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = (line.split() for line in lines)
    return {field[0].rstrip(":"): int(field[1]) * 1024 for field in fields if field[-1] == "kB"}


EVERY = 0.2
"""Seconds between two looks."""


class CommandFailed(RuntimeError):
    """A command ended with another status than 0; says what it printed last."""


@dataclass(frozen=True)
class Watched:
    """Time and memory that a command took."""

    seconds: float
    peak: int
    """Bytes: the most that the process had in memory (the system's own count, mapped files included)."""
    looks: list[tuple[float, int]]
    """Seconds since 1970, and bytes in memory then."""

    def peak_between(self, begin: float, end: float) -> int:
        """The most that was seen from `begin` to `end`, in seconds since 1970; 0 if there was no look."""
        return max((size for moment, size in self.looks if begin <= moment <= end), default=0)


def watch(command: list[str], root: Path, log: Path, threads: int, tick: Callable[[], None] = lambda: None) -> Watched:
    """Runs `python COMMAND` in `root`, its output appended to `log`; `tick` is called at every look.

    CommandFailed if it ends with another status than 0.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        # what is freed goes back to the system at once, so that the system's count is that of what is alive
        "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
        "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": str(root),
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    looks, peak, begin = [], 0, time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                sizes = _memory(process.pid)
                if sizes is not None:
                    looks.append((time.time(), sizes[0]))
                    peak = max(peak, sizes[1])
                tick()
                time.sleep(EVERY)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        raise CommandFailed(f"python {' '.join(command)} ended with status {process.returncode}:\n{last}")
    return Watched(time.monotonic() - begin, peak, looks)


def _memory(process: int) -> tuple[int, int] | None:
    """Bytes in memory now and at most so far; None once the process has ended."""
    try:
        counted = memory_of(process)
    except OSError:
        return None
    return (counted["VmRSS"], counted["VmHWM"]) if counted else None


ROOT = Path(__file__).parents[3]
CAPTIONS = ("a red fox in the snow", "a lighthouse at dusk")
SCHEMAS = {"image": ImageConfig, "video": VideoConfig}
DTYPE = "bfloat16"
SAMPLING = ("generation", "decoding", "previews")
UPDATING = ("training", "optimizer step", "reference's errors")
"""Phases of `plan` that make up an update."""
STATES = "states of"
"""A part of them that comes with the first update, and so after the first sampling."""
Say = Callable[[str], None]


def run_case(
    name: str, case: Case, scratch: Path, threads: int, say: Say, tick: Callable[[], None], keep: bool = False
) -> Result:
    """Writes base, data and config into `scratch`, prepares, trains one update, exports, and takes it all away again.

    `say` is told what comes next. CommandFailed if a command fails; its folder then stays with its log, as it does
    with `keep`.
    """
    folder = scratch / name
    if folder.exists():
        shutil.rmtree(folder)
    say("random weights")
    config, counts = _write(case, folder)
    say("plan")
    plan = _plan(config)
    watched: dict[str, Watched] = {}
    package = f"seppo_{case.modality}"
    command = partial(watch, root=ROOT, log=folder / "log.txt", threads=threads, tick=tick)
    idle = command(["-c", f"import {package}.commands"]).peak
    for step in ("prepare", "train", "export"):
        say(step)
        watched[step] = command(["-m", package, step, str(folder / "config.yaml")])
    result = _result(name, case, config, plan, counts, idle, watched, threads)
    if not keep:
        shutil.rmtree(folder)
    return result


def _write(case: Case, folder: Path) -> tuple[Config, dict[str, int]]:
    """The base, two winners and the config; also the parameters of the base's components."""
    schema, dtype = SCHEMAS[case.modality], getattr(torch, DTYPE)
    recipe = ROOT / "configs" / f"{case.recipe}.yaml"
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    wanted = load_config(recipe, schema)
    base = folder / "base"
    numbers = pipeline_architecture(wanted.model.base, BASES[case.modality])
    counts = write_base(base, numbers, case.parts, dtype)
    model = values["model"] | {"base": str(base), "variant": None, "vae": None}
    if (name := _motion_adapter(wanted)) is not None:
        motion = folder / "motion"
        counts["motion_adapter"] = write_single(motion, name, BASES[case.modality], dtype)
        model["motion_adapter"] = str(motion)
    if case.tune == "lora":
        model["dtype"] = DTYPE
    values |= {"run": str(folder / "run"), "model": model}
    data = values["data"] | {"source": str(folder / "data"), "cache": str(folder / "cache"), **case.data}
    values["data"] = data | {
        "format": "folder",
        "supervision": "winners",
        "encode_batch_size": 1,
        "workers": 1,
        "stride": 1,
    }
    if case.modality == "image":
        del values["data"]["stride"]
    for key in ("expected_rows", "expected_sha256", "chosen_column"):
        values["data"].pop(key, None)
    small = {
        "iterations": 1,
        "updates_per_iteration": 1,
        "batch_size": 1,
        "micro_batch_size": 1,
        "mixed_precision": "bf16",
    }
    values["loop"] = values["loop"] | small | {"gradient_checkpointing": True}
    # a single step breaks diffusers' shift to a terminal, LTX's
    values["reference_samples"] = values.get("reference_samples", {}) | {"steps": 2, "batch_size": 1}
    # a quarter of an hour goes into decoding one clip on a CPU
    prompts = list(CAPTIONS[:1]) if case.modality == "image" else []
    values["preview"] = {"prompts": prompts, "every": 0, "per_prompt": 1, "steps": 1}
    # without a warm-up: its first update has a rate of zero
    values["optimizer"] = values["optimizer"] | {"warmup_updates": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    config = load_config(folder / "config.yaml", schema)
    d = config.data
    frames = (d.frames,) if case.modality == "video" else ()
    shape = (len(CAPTIONS), 3, *frames, d.height, d.width)
    write_set(folder / "data", case.modality, _pixels(shape), CAPTIONS)
    return config, counts


def _motion_adapter(config: Config) -> str | None:
    return config.model.parts().get("motion_adapter")


def _pixels(shape: tuple[int, ...]) -> torch.Tensor:
    """Clouds of colour in [-1, 1]: noise alone would be no picture, and large files."""
    generator = torch.Generator().manual_seed(0)
    n, channels, *size = shape
    small = torch.randn(n, channels, *(max(1, side // 32) for side in size), generator=generator)
    mode = "trilinear" if len(size) == 3 else "bilinear"
    return torch.nn.functional.interpolate(small, size=size, mode=mode).tanh()


def _plan(config: Config) -> Plan:
    return make_plan(config, PlanRequest(items=len(CAPTIONS)))


def _result(
    name: str,
    case: Case,
    config: Config,
    plan: Plan,
    counts: dict[str, int],
    idle: int,
    watched: dict[str, Watched],
    threads: int,
) -> Result:
    run = Path(config.run)
    metrics, events = read_metrics(run)[-1], read_events(run)
    moments = {event["event"]: event["time"] for event in events}

    def peak(begin: str, end: str) -> int:
        return watched["train"].peak_between(moments[begin], moments[end])

    latest = load_checkpoint(CheckpointFolder(run / "checkpoints").latest())
    began = load_file(next(iter(sorted((run / "pool").rglob("*.safetensors")))))
    moved = sum(int((value != began[key].to(value)).sum()) for key, value in latest.policy.items())
    denoiser = counts[denoiser_of(counts)] + counts.get("motion_adapter", 0)
    d = config.data
    frames = f"{d.frames} × " if case.modality == "video" else ""
    result = Result(
        case=name, family=case.family, about=case.about, less=case.less, size=f"{frames}{d.height} × {d.width}",
        tune=case.tune, denoiser=denoiser, whole=sum(counts.values()),
        trained=sum(value.numel() for value in latest.policy.values()),
        planned_denoiser=plan.parameters.denoiser, planned_trained=plan.parameters.trained,
        loss=metrics["loss"], winner_error=metrics["winner_error"], grad_norm=metrics["grad_norm"], moved=moved,
        prepare=_beside_prepare(config, plan, idle, watched["prepare"].peak),
        sampling=_beside(plan, SAMPLING, idle, peak("started", "samples"), STATES),
        update=_beside(plan, UPDATING, idle, peak("samples", "checkpoint")),
        exported=numbers_on_disk(run / "export"),
        update_seconds=metrics["seconds"],
        seconds={step: round(one.seconds, 1) for step, one in watched.items()},
        date=date.today().isoformat(), commit=environment()["commit"], machine=processor(), threads=threads,
    )  # fmt: skip
    check(result)
    return result


def _beside(plan: Plan, phases: Sequence[str], idle: int, peak: int, without: str = " ") -> Beside:
    """The `peak` that was seen, and the most that `plan` counts in any of `phases`, parts named `without`… left out.

    On a CPU all is in one memory, so that what waits beside the GPU counts as well.
    """
    planned = max(
        sum(size for part, size in plan.phases[phase].items() if not part.startswith(without))
        for phase in phases
        if phase in plan.phases
    )
    return Beside(peak - idle, planned - CONTEXT + plan.host)


def _beside_prepare(config: Config, plan: Plan, idle: int, peak: int) -> Beside:
    """Compares the memory of `prepare`, which reads the denoiser and frees it before it encodes.

    Weights that need no other dtype stay in their mapped file, unread. Others are in memory for that while, and beside
    them what of the file was read.
    """
    parts = plan.phases["prepare"]
    encoding = sum(parts.values()) - CONTEXT
    if config.model.dtype == DTYPE:
        return Beside(peak - idle, encoding)
    sizes = [getattr(torch, name).itemsize for name in (DTYPE, config.model.dtype)]
    return Beside(peak - idle, max(encoding, encoding - parts["activations"] + plan.parameters.denoiser * sum(sizes)))


def check(result: Result) -> None:
    """CommandFailed if what came out is not that of a first update."""
    wrong: dict[str, Any] = {}
    if abs(result.loss - math.log(2)) > 1e-3:
        wrong["loss"] = result.loss
    for key in ("winner_error", "grad_norm"):
        if not 0 < getattr(result, key) < math.inf:
            wrong[key] = getattr(result, key)
    if not result.moved:
        wrong["moved"] = 0
    for key in ("denoiser", "trained"):
        if getattr(result, key) != getattr(result, f"planned_{key}"):
            wrong[key] = f"{getattr(result, key):,}, planned {getattr(result, f'planned_{key}'):,}"
    if wrong:
        raise CommandFailed(f"{result.case} ran, but {json.dumps(wrong)} is not what a first update has")
