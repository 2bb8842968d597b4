"""How the same update is computed: attention kernels, precision, compiled graphs."""

from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.experiments.speed.bench import Bench, Left, Prepared, Stage, Unavailable
from benchmarks.experiments.speed.measuring import Times, Variant, nothing
from seppo_core.config.training import Backend
from seppo_core.methods.step import Batch
from seppo_core.models.attention import set_attention
from seppo_core.models.compiling import compile_blocks, repeated_blocks

KERNELS = {
    "SDPA, unfused (math)": (SDPBackend.MATH, ("cpu", "cuda")),
    "SDPA, flash": (SDPBackend.FLASH_ATTENTION, ("cpu", "cuda")),
    "SDPA, memory-efficient": (SDPBackend.EFFICIENT_ATTENTION, ("cuda",)),
    "SDPA, cuDNN": (SDPBackend.CUDNN_ATTENTION, ("cuda",)),
}
"""Kernels of torch's scaled_dot_product_attention, and devices that have them."""
XFORMERS = "xformers"
NATIVE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""Flags of processors that multiply bfloat16 themselves, x86's and ARM's."""


def attention(stage: Stage) -> Prepared:
    """Policy and reference alike. A kernel that cannot run the subject's shapes or precision is told by its failing."""
    bench, device = stage.bench(), stage.device
    method = bench.method("seppo")
    batch = bench.batch(method, stage.subject.batch)
    left: list[Left] = []

    def variant(name: str, backend: SDPBackend | None, before: Callable[[], object] = nothing) -> Variant:
        def run() -> None:
            if backend is None:
                bench.update(method, repeat(batch))
                return
            try:
                with sdpa_kernel(backend):
                    bench.update(method, repeat(batch))
            except RuntimeError as error:
                if "No available kernel" not in str(error):
                    raise
                raise Unavailable(
                    f"this kernel does not run this model's attention in {bench.precision} on this device"
                ) from error

        return Variant(name, run, before, lambda: bench.held(batch, reference=bench.reference))

    switch = _Processors(bench)
    variants = [variant("SDPA, its own choice", None, switch.back)]
    for name, (backend, devices) in KERNELS.items():
        if device.type in devices:
            variants.append(variant(name, backend, switch.back))
        else:
            left.append(Left(name, f"this kernel needs CUDA, this run is on {device.type}"))
    try:
        switch.find()
        variants.append(variant(XFORMERS, None, switch.to_xformers))
    except ValueError as error:
        left.append(Left(XFORMERS, str(error)))
    return Prepared(variants, left, close=switch.back)


class _Processors:
    """Switches policy and reference between the attention that they were built with and xformers."""

    def __init__(self, bench: Bench):
        self.bench = bench
        with bench.reference.active() as frozen:
            self.models = [bench.policy] if frozen is bench.policy else [bench.policy, frozen]
        self.built: list[dict] = []
        self.found: list[dict] = []

    def find(self) -> None:
        """ValueError if xformers is not to be had."""
        built = [dict(model.attn_processors) for model in self.models[:1]]
        set_attention(self.bench.adapter, XFORMERS, self.bench.device)
        # a copy has the same places, and can share what has no weights
        self.built, self.found = built * len(self.models), [dict(self.models[0].attn_processors)] * len(self.models)
        self.back()

    def to_xformers(self) -> None:
        self._set(self.found)

    def back(self) -> None:
        self._set(self.built)

    def _set(self, processors: list[dict]) -> None:
        for model, chosen in zip(self.models, processors, strict=False):
            model.set_attn_processor(dict(chosen))


def precision(stage: Stage) -> Prepared:
    """Weights are float32 in all of them; autocast is that of training."""
    bench, device = stage.bench(precision="fp32"), stage.device
    method = bench.method("seppo")
    batch = bench.batch(method, stage.subject.batch)

    def to(name: str, matmul: str = "highest") -> None:
        bench.compute_in(name)
        if device.type == "cuda":
            torch.set_float32_matmul_precision(matmul)

    def variant(name: str, before: Callable[[], object], note: str = "") -> Variant:
        run = lambda: bench.update(method, repeat(batch))  # noqa: E731
        return Variant(name, run, before, lambda: bench.held(batch, reference=bench.reference), note=note)

    variants, left = [variant("fp32", lambda: to("fp32"))], []
    if device.type == "cuda":
        variants.append(variant("fp32, products in TF32", lambda: to("fp32", "high")))
        variants.append(variant("bf16 autocast", lambda: to("bf16")))
        variants.append(variant("fp16 autocast", lambda: to("fp16"), "with a gradient scaler"))
    else:
        variants.append(variant("bf16 autocast", lambda: to("bf16"), _bf16_on_cpu()))
        left.append(Left("fp16 autocast", "training in fp16 is for CUDA"))
        left.append(Left("fp32, products in TF32", "TF32 is of CUDA's tensor cores"))
    return Prepared(variants, left, close=lambda: to("fp32"))


def _bf16_on_cpu(path: Path = Path("/proc/cpuinfo")) -> str:
    flags = set(path.read_text(encoding="utf-8", errors="replace").split()) if path.is_file() else set()
    native = sorted(flags & set(NATIVE_BF16))
    return f"this processor has {', '.join(native)}" if native else "this processor has no instructions for bfloat16"


def layout(stage: Stage) -> Prepared:
    """Weights and moments of policy and reference; what a convolution is given follows its weights."""
    if stage.device.type != "cuda" and not stage.named:
        raise Unavailable("on a CPU the layouts hardly differ; ask for it with --only layout")
    bench = stage.bench()
    if not bench.config.model.spec.unet:
        raise Unavailable("this denoiser is a transformer, whose work is no convolution's")
    method = bench.method("seppo")
    batch = bench.batch(method, stage.subject.batch)
    with bench.reference.active() as frozen:
        models = {bench.policy, frozen}

    def to(form: torch.memory_format) -> None:
        for model in models:
            model.to(memory_format=form)
        for state in bench.optimizer.state.values():
            for name, value in state.items():
                if torch.is_tensor(value) and value.ndim == 4:
                    state[name] = value.contiguous(memory_format=form)

    def variant(name: str, form: torch.memory_format) -> Variant:
        run = lambda: bench.update(method, repeat(batch))  # noqa: E731
        return Variant(name, run, lambda: to(form), lambda: bench.held(batch, reference=bench.reference))

    variants = [variant("contiguous", torch.contiguous_format), variant("channels-last", torch.channels_last)]
    return Prepared(variants, close=lambda: to(torch.contiguous_format))


def compiled(stage: Stage, backend: Backend = "inductor") -> Prepared:
    """The repeated blocks of policy and reference compiled, as loop.compile has it."""
    if stage.device.type != "cuda" and not stage.named:
        raise Unavailable("on a CPU compiling takes minutes and shows little; ask for it with --only compile")
    bench = stage.bench()
    method = bench.method("seppo")
    batch: Batch = bench.batch(method, stage.subject.batch)
    # compiled graphs make their tensors unseen by what counts them on a CPU
    held = (lambda: bench.held(batch, reference=bench.reference)) if stage.device.type == "cuda" else None
    with bench.reference.active() as frozen:
        models = {bench.policy, frozen}
    for model in models:
        compile_blocks(model, backend)
    graphs = {block: block.forward for model in models for block in repeated_blocks(model)}

    def plain() -> None:
        for block in graphs:
            # what is left is the method of its class
            vars(block).pop("forward", None)

    def fast() -> None:
        for block, graph in graphs.items():
            block.forward = graph

    def close() -> None:
        plain()
        torch.compiler.reset()

    run = lambda: bench.update(method, repeat(batch))  # noqa: E731
    variants = [Variant("eager", run, before=plain, held=held), Variant("compiled", run, before=fast, held=held)]

    def remarks(times: Sequence[Times]) -> list[str]:
        of = {one.variant.name: one for one in times if one.seconds}
        if len(of) < 2:
            return []
        first, usual = of["compiled"].first, median(of["compiled"].seconds)
        saved = median(of["eager"].seconds) - usual
        said = f"The first update took {first:,.0f} s longer, for compiling"
        if saved <= 0:
            return [f"{said}, which is never made up for here."]
        return [f"{said}; made up for after {max(0, first - usual) / saved:,.0f} updates."]

    return Prepared(variants, remarks=remarks, close=close)
