"""`python -m benchmarks.gpu.memory --base ID`: a LoRA update's peak memory beside what `plan` counts for it."""

import argparse
import gc
import sys
import time
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import torch

from benchmarks.experiments.full_size.run import memory_of
from benchmarks.experiments.speed.bench import DTYPES, Bench
from benchmarks.experiments.speed.measuring import GIB, Variant, device_name, measure_memory
from benchmarks.experiments.speed.models import Subject, default_subjects, find_subject
from benchmarks.experiments.speed.plain import Marks, Plain
from benchmarks.gpu.results import KIND, file_name
from seppo_core.config.schema import Config
from seppo_core.io.atomic import save_json
from seppo_core.methods.method import Method
from seppo_core.models.offload import OffloadedBlocks
from seppo_core.models.quantize import quantize_denoiser
from seppo_core.plan.build import build_adapter
from seppo_core.plan.measure import measure
from seppo_core.plan.memory import memory
from seppo_core.plan.step_costs import Cost, StepCosts
from seppo_core.report.provenance import provenance

SMALL = 8
"""Side of the latents of the update before the measured one; UNets halve it three times."""
NOT_HERE = ("CUDA context, assumed",)
"""Parts of a plan that the allocator does not see."""


def config_of(subject: Subject, precision: str, quantize: str | None = None, offload: bool = False) -> Config:
    """A LoRA with recomputed activations, one micro-batch an update. ValueError for what the family cannot."""
    config = subject.config("lora", str(DTYPES[precision]).removeprefix("torch."))
    loop = replace(
        config.loop, batch_size=subject.batch, micro_batch_size=subject.batch, gradient_checkpointing=True,
        mixed_precision="no" if precision == "fp32" else precision,
    )  # fmt: skip
    # winners and losers at once, as the plain way encodes them
    data = replace(config.data, encode_batch_size=2 * subject.batch)
    return replace(config, model=replace(config.model, quantize=quantize, offload=offload), loop=loop, data=data)


def planned(config: Config, costs: StepCosts | None = None, plain: bool = False) -> dict[str, int]:
    """Bytes of an update's parts by `plan`; of the plain way's, with what it holds beside the policy, and the
    activations of encoding its pictures where those are more than the policy's. `costs` know them unless they are of
    the step alone."""
    costs = measure(config, only_step=not plain) if costs is None else costs
    # a CPU has one memory for what is on a GPU of an offloaded base and for what is not
    waiting = {"blocks that wait": costs.weights.base - costs.weights.outside.weights} if config.model.offload else {}
    parts = memory(config, costs, 1)["training"] | waiting
    parts = {name: size for name, size in parts.items() if name not in NOT_HERE}
    if not plain:
        return parts
    parts.pop("reference's own weights", None)
    dtype = getattr(torch, config.model.dtype)
    components = build_adapter(config, dtype).pipeline.components
    encoders = {name: m for name, m in components.items() if name == "vae" or name.startswith("text_encoder")}
    held = {
        name: dtype.itemsize * sum(p.numel() for p in module.parameters())
        for name, module in encoders.items()
        if module is not None
    }
    if not costs.encoding.peak:
        raise ValueError("these costs are of a step alone; the plain way encodes: measure(config) counts it")
    at_once = max(parts["activations"], as_cast(config, costs, costs.encoding))
    return parts | {"second copy": costs.weights.base, "activations": at_once} | held


def as_cast(config: Config, costs: StepCosts, of_vae: Cost) -> int:
    """Bytes at the peak of the VAE in the plain way, which casts it to the precision of the denoiser; `plan` counts it
    in the one that `prepare` loads it in, float32 for some families."""
    counted = getattr(torch, costs.weights.dtypes["vae"]).itemsize
    return of_vae.peak * getattr(torch, config.model.dtype).itemsize // counted


def compare(
    subject: Subject, device: torch.device, precision: str, quantize: str | None = None, offload: bool = False,
    *, plain: bool = False, system: bool = False,
) -> dict:  # fmt: skip
    """Bytes of one update with recomputed activations, measured and, unless `system` counts them, planned; its seconds.

    One update goes before it, of the same size, or of a small picture where `system` counts. `plain` measures the plain
    way's instead of ours (`speed --plain`), and `system` lets the operating system count: the most that the process has
    in memory, less what it had before there was a model.
    """
    torch.randn(256, 256) @ torch.randn(256, 256)
    idle = memory_of()["VmRSS"] if system else 0
    config = config_of(subject, precision, quantize, offload)
    bench = Bench(subject, "lora", precision, device)
    quantize_denoiser(bench.adapter, config.model, DTYPES[precision], device)
    bench.policy.enable_gradient_checkpointing()
    if offload:
        OffloadedBlocks(bench.policy, device)
    method = bench.method("seppo")
    if system:
        _begin(bench, method)
    if plain:
        way = Plain(bench, subject.batch, Marks())
        run, held = way.update, lambda: [tensor for part in way.parts().values() for tensor in part]
    else:
        batch = bench.batch(method, subject.batch)
        run = lambda: bench.update(method, repeat(batch))  # noqa: E731
        held = lambda: bench.held(batch, reference=bench.reference)  # noqa: E731
    if system:
        gc.collect()
        reset_peak()
    else:
        run()
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    about = {
        "subject": subject.title, "size": subject.size, "precision": precision, "quantize": quantize,
        "offload": offload, "plain": plain, "seconds": time.perf_counter() - began,
    }  # fmt: skip
    if system:
        return about | {"measured": memory_of()["VmHWM"] - idle, "idle": idle}
    found = measure_memory(Variant("update", run, held=held), device)
    parts = planned(config, plain=plain)
    measured = found.peak if found.allocated is None else found.allocated
    whole = sum(parts.values())
    return about | {"planned": whole, "measured": measured, "share": measured / whole, "parts": parts}


def _begin(bench: Bench, method: Method) -> None:
    """One update of a small picture: the optimiser has its moments from then on, and libraries what they keep."""
    whole = bench.shape
    bench.shape = (*whole[:-2], SMALL, SMALL)
    bench.update(method, repeat(bench.batch(method, 1)))
    bench.shape = whole


def reset_peak() -> None:
    """Lets the system's count of this process's peak memory begin anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.memory", description=__doc__)
    add = parser.add_argument
    add("--base", help="hub id; without it the small base of images")
    add("--height", type=int)
    add("--width", type=int)
    add("--frames", type=int)
    add("--quantize", choices=["nf4", "int8", "int8wo", "float8wo"])
    add("--offload", action="store_true")
    add("--plain", action="store_true", help="the plain way of `speed --plain` instead of ours")
    add("--system", action="store_true", help="let the operating system count, in a process that does nothing else")
    add("--dtype", choices=list(DTYPES), help="default: bf16 on CUDA, fp32 on a CPU")
    add("--out", type=Path, default=Path("runs/gpu"))
    asked = parser.parse_args(sys.argv[1:] if argv is None else argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked.base is None:
        subject = replace(default_subjects(cuda=False)[0], batch=1)
    else:
        size = {"height": asked.height, "width": asked.width, "frames": asked.frames}
        subject = find_subject(asked.base, **size, tune="lora", batch=1)
    precision = asked.dtype or ("bf16" if device.type == "cuda" else "fp32")
    found = compare(
        subject, device, precision, asked.quantize, asked.offload, plain=asked.plain, system=asked.system
    )  # fmt: skip
    asked.out.mkdir(parents=True, exist_ok=True)
    origin = provenance() | {"device": device_name(device)}
    save_json(asked.out / file_name(found | {"origin": origin}), {"kind": KIND, "origin": origin, **found})
    beside = "" if asked.system else f", {found['planned'] / GIB:.2f} planned ({found['share']:.2f})"
    print(
        f"{subject.title}, {subject.size}: {found['measured'] / GIB:.2f} GiB measured{beside}, {found['seconds']:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
