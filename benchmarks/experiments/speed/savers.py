"""What saves memory, and what it costs."""

from itertools import repeat

import torch

from benchmarks.experiments.speed.bench import moments
from benchmarks.experiments.speed.memory import megabytes
from benchmarks.experiments.speed.stage import Prepared, Stage, Unavailable
from benchmarks.experiments.speed.timing import Variant
from benchmarks.experiments.speed.updates import passes
from seppo_core.config.training import OptimizerConfig
from seppo_core.methods.reference import FrozenCopy, Reference
from seppo_core.training.optim import make_optimizer


def checkpointing(stage: Stage) -> Prepared:
    bench = stage.bench()
    method = bench.method("seppo")
    batch = bench.batch(method, stage.subject.batch)
    run = lambda: bench.update(method, repeat(batch))  # noqa: E731
    held = lambda: bench.held(batch, reference=bench.reference)  # noqa: E731
    off, on = bench.policy.disable_gradient_checkpointing, bench.policy.enable_gradient_checkpointing
    before = passes(method, stage.mode)
    return Prepared(
        [
            Variant("kept activations", run, before=off, held=held),
            # the policy goes forward over both halves once more
            Variant("gradient checkpointing", run, before=on, held=held, counted=(before + 2) / before),
        ],
        close=off,
    )


def reference(stage: Stage) -> Prepared:
    """A LoRA whatever the subject's own tuning is."""
    bench = stage.bench(mode="lora")
    # the view first: it adds a second LoRA to the policy, which the copy then has too, unused
    view = bench.reference
    method = bench.method("seppo")
    batch = bench.batch(method, stage.subject.batch)

    def variant(name: str, chosen: Reference, note: str) -> Variant:
        return Variant(
            name,
            lambda: bench.update(method, repeat(batch), reference=chosen),
            held=lambda: bench.held(batch, reference=chosen),
            note=note,
        )

    base = sum(p.numel() * p.element_size() for p in bench.policy.parameters() if not p.requires_grad)
    remarks = [
        f"The policy is a LoRA of rank {stage.subject.rank}. A copy that shared nothing with it would hold another "
        f"{megabytes(base)}."
    ]
    return Prepared(
        [
            variant("second LoRA (view)", view, "what training does: switched in for the reference's passes"),
            variant("frozen copy", FrozenCopy(bench.policy), "a module of its own; the frozen base is shared"),
        ],
        remarks=lambda times: remarks,
    )


def offload(stage: Stage) -> Prepared:
    """All weights are trained whatever the subject's own tuning is: a LoRA's reference has nothing to move."""
    if stage.device.type != "cuda":
        raise Unavailable("on a CPU the reference waits where it is used; there is nothing to move")
    bench = stage.bench(mode="full")
    method = bench.method("seppo")
    batch = bench.batch(method, stage.subject.batch)
    waiting = FrozenCopy(bench.policy, offload=True)
    return Prepared(
        [
            Variant(
                "reference on the device",
                lambda: bench.update(method, repeat(batch)),
                held=lambda: bench.held(batch, reference=bench.reference),
            ),
            Variant(
                "reference waiting on the CPU",
                lambda: bench.update(method, repeat(batch), reference=waiting),
                held=lambda: bench.held(batch),
                note="moved to the device and dropped again in every micro-batch",
            ),
        ]
    )


def optimizer(stage: Stage) -> Prepared:
    """The step alone: clipping and AdamW, on random gradients."""
    bench = stage.bench()
    try:
        eight = make_optimizer(OptimizerConfig(name="adamw8bit"), bench.parameters)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    kept = [torch.randn_like(parameter) for parameter in bench.parameters.values()]

    def gradients() -> None:
        # clipping scales them where they are, and the step drops them
        for parameter, gradient in zip(bench.parameters.values(), kept, strict=True):
            parameter.grad = gradient.clone()

    def variant(name: str, chosen: torch.optim.Optimizer) -> Variant:
        stepper = bench.make_stepper(chosen)
        return Variant(name, lambda: stepper.step(0.0), before=gradients, held=lambda: moments(chosen))

    remarks = ["The step alone; what share of an update it is, the parts of an update say. Memory is the moments'."]
    return Prepared(
        [variant("AdamW", bench.optimizer), variant("AdamW, moments of 8 bits", eight)], remarks=lambda times: remarks
    )
