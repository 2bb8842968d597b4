"""Comparisons of an update's parts: the method, its passes, its micro-batches, and savings of memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, repeat
from statistics import median

import torch
from torch import Tensor

from benchmarks.experiments.speed.bench import Bench, Prepared, Stage, Unavailable, moments
from benchmarks.experiments.speed.measuring import Times, Variant, megabytes, ratio
from seppo_core.config.training import OptimizerConfig
from seppo_core.io.rng import keyed_normal
from seppo_core.methods.method import Method
from seppo_core.methods.reference import FrozenCopy, Reference
from seppo_core.methods.step import Batch, held_pair, pair_pass
from seppo_core.models.sampling import sample
from seppo_core.training.optim import make_optimizer

METHODS = ("sft", "kto", "mapo", "dpo", "spin", "sspo", "seppo")
GUIDANCE = 7.5
ANCHOR_DRAWS = 4


def methods(stage: Stage) -> Prepared:
    """Each on a batch of the subject's size in one go."""
    bench = stage.bench()
    known = [bench.method(name) for name in METHODS]
    variants = [
        _update(bench, method, stage.subject.batch, name, passes(method, stage.mode) / passes(known[0], stage.mode))
        for name, method in zip(METHODS, known, strict=True)
    ]
    remarks = [
        f"A batch of {stage.subject.batch} counts winners (sft), labelled items (kto) or pairs (all others). Drawing "
        "the reference's samples, which spin, sspo and seppo do before an iteration, is not in it: see the parts of an "
        "update."
    ]
    return Prepared(variants, remarks=lambda times: remarks)


def passes(method: Method, mode: str, recomputed: bool = False) -> float:
    """Forward passes over one item that an update takes for each of a batch; a backward counts as two of them, as one
    if a LoRA is trained, whose base wants no gradients of its weights, and as one more if activations are recomputed.
    """
    spec = method.spec
    halves = 2 if spec.counterpart != "none" else 1
    policy = halves * ((3 if mode == "full" else 2) + recomputed)
    # with the averaged anchor, and to observe, policy and reference look at the winners once more each
    further = 2 * method.anchor_draws + 2 * method.observes
    return policy + halves * spec.uses_reference + further


def anchor(stage: Stage) -> Prepared:
    bench = stage.bench()
    plain, averaged = bench.method("seppo"), bench.method("seppo", anchor_draws=ANCHOR_DRAWS)
    count, more = stage.subject.batch, passes(averaged, stage.mode) / passes(plain, stage.mode)
    return Prepared(
        [
            _update(bench, plain, count, "the loss's own draw"),
            _update(bench, averaged, count, f"{ANCHOR_DRAWS} further draws", more),
        ]
    )


def accumulation(stage: Stage) -> Prepared:
    """Powers of two that divide the batch, and the whole of it."""
    bench, batch = stage.bench(), stage.subject.batch
    method = bench.method("seppo")
    sizes = [size for size in (2**power for power in range(batch.bit_length())) if batch % size == 0 and size < batch]

    def variant(size: int) -> Variant:
        parts = [bench.batch(method, size) for _ in range(batch // size)]
        return Variant(
            f"micro-batches of {size}",
            lambda: bench.update(method, cycle(parts), len(parts)),
            held=lambda: bench.held(*parts, reference=bench.reference),
        )

    remarks = [f"SePPO on {batch} pairs an update; the gradient is the same but for rounding."]
    return Prepared([variant(size) for size in [*sizes, batch]], remarks=lambda times: remarks)


def parts(stage: Stage) -> Prepared:
    """Each part is run by itself, what it builds on beforehand and untimed."""
    bench, count = stage.bench(), stage.subject.batch
    work = _Parts(bench, bench.method("seppo"), stage)
    whole = replace(_update(bench, work.method, count, "the whole update"), held=None)
    pieces = [
        Variant("forward passes of the reference", work.reference),
        Variant("forward passes of the policy", work.forward),
        Variant("backward pass", work.backward, before=work.graph),
        Variant("clipping and optimiser", work.step, before=work.gradients),
    ]
    drawn = Variant(
        f"drawing samples, {stage.sampling_steps} steps", work.draw, before=work.clear,
        note=f"{count} of the reference, with guidance; before an iteration, not in the update",
    )  # fmt: skip

    def remarks(times: Sequence[Times]) -> list[str]:
        of = {one.variant.name: one.seconds for one in times}
        if not all(of.get(one.name) for one in (whole, *pieces)):
            return []
        rounds = zip(of[whole.name], *(of[piece.name] for piece in pieces), strict=True)
        share = median(sum(rest) / all_of_it for all_of_it, *rest in rounds)
        said = [f"The four parts add up to {100 * share:.0f} % of the whole update."]
        if drawn.name in of:
            rate = ratio(of[drawn.name], of[whole.name]).value
            said.append(
                f"With its samples, a pair takes {1 + rate:.2f} times as long as its update alone; drawing them is "
                f"{100 * rate / (1 + rate):.0f} % of it, and grows with the steps."
            )
        return said

    return Prepared([whole, *pieces, drawn], remarks=remarks, close=work.clear)


@dataclass
class _Parts:
    """The pieces of `Contrastive.loss` and of the update around it."""

    bench: Bench
    method: Method
    stage: Stage
    loss: Tensor | None = None

    def __post_init__(self):
        b, count = self.bench, self.stage.subject.batch
        self.batch = b.batch(self.method, count)
        self.noise = torch.stack([keyed_normal(b.shape, "speed", index) for index in range(count)]).to(b.device)
        self.unconditional = b.conditions.draw_text(1, b.device)

    def reference(self) -> None:
        with self.bench.autocast():
            held_pair(self.bench.adapter, self.bench.reference, self.batch)

    def forward(self) -> None:
        with self.bench.autocast():
            pair_pass(self.bench.adapter, self.bench.policy, self.batch)

    def graph(self) -> None:
        """The loss, ready for its backward pass."""
        self.clear()
        b = self.bench
        with b.autocast():
            self.loss, _ = self.method.loss(b.adapter, b.policy, b.reference, self.batch, {})

    def backward(self) -> None:
        self.bench.backward(self.loss)

    def gradients(self) -> None:
        self.graph()
        self.backward()
        self.value = self.loss.detach()
        self.loss = None

    def step(self) -> None:
        self.bench.step({"loss": self.value})

    def draw(self) -> None:
        b = self.bench
        with b.reference.active() as denoiser, b.autocast():
            sample(
                b.adapter, denoiser, self.batch.condition, noise=self.noise, steps=self.stage.sampling_steps,
                guidance_scale=GUIDANCE, unconditional=self.unconditional,
            )  # fmt: skip

    def clear(self) -> None:
        self.loss = None
        self.bench.optimizer.zero_grad(set_to_none=True)


def _update(bench: Bench, method: Method, count: int, name: str, counted: float | None = None) -> Variant:
    """A whole update on one random batch of `count`."""
    batch: Batch = bench.batch(method, count)
    reference = bench.reference if method.spec.uses_reference else None
    return Variant(
        name,
        lambda: bench.update(method, repeat(batch)),
        held=lambda: bench.held(batch, reference=reference),
        counted=counted,
    )


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
        # clipping scales them in place, and the step drops them
        for parameter, gradient in zip(bench.parameters.values(), kept, strict=True):
            parameter.grad = gradient.clone()

    def variant(name: str, chosen: torch.optim.Optimizer) -> Variant:
        stepper = bench.make_stepper(chosen)
        return Variant(
            name, lambda: stepper.step({"loss": torch.zeros(())}), before=gradients, held=lambda: moments(chosen)
        )

    remarks = ["The step alone; what share of an update it is, the parts of an update say. Memory is the moments'."]
    return Prepared(
        [variant("AdamW", bench.optimizer), variant("AdamW, moments of 8 bits", eight)], remarks=lambda times: remarks
    )
