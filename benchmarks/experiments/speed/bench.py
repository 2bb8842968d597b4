"""A tuned model with reference and optimiser, the trainer's update on it, and what a comparison is given."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, repeat
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.experiments.speed.measuring import GIB, Times, Variant, free_memory, nothing
from benchmarks.experiments.speed.models import Conditions, Subject, Tune, random_adapter
from seppo_core.distributed.ranks import make_accelerator
from seppo_core.methods.method import Method
from seppo_core.methods.reference import REFERENCE, LoraView, Reference, make_reference
from seppo_core.methods.step import Batch
from seppo_core.models.tuning import trainable_parameters
from seppo_core.plan.build import build_adapter
from seppo_core.training.optim import Stepper, make_optimizer, make_schedule
from seppo_core.training.parallel import Replicated
from seppo_core.training.setup import build_model, make_method

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
HEADROOM = 0.9
"""Share of the free memory that weights, moments and gradients may take; activations come on top."""
RECOMPUTED = "activations recomputed"
"""How a subject is described whose update does so."""
PATIENCE = 24
"""Updates that a scaler of fp16's gradients gets to find its scale."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The autocast context of policy and reference; fp32 has none."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


class Bench:
    """The subject's policy, tuned and on the device. `update` is what `Trainer` does in one process."""

    def __init__(self, subject: Subject, mode: Tune, precision: str, device: torch.device):
        self.subject, self.mode, self.built_in, self.device = subject, mode, precision, device
        # weights that are trained are float32 whatever they are computed in
        dtype = DTYPES["fp32" if mode == "full" else precision]
        self.config = subject.config(mode, str(dtype).removeprefix("torch."))
        self.adapter = random_adapter(self.config, dtype, device)
        self.conditions = Conditions.of(subject, self.adapter)
        self.shape = self.adapter.latent_shape(subject.height, subject.width, subject.frames)
        self.noise_path = build_model(self.config, self.adapter).noise_path
        self.policy = self.adapter.denoiser.to(device)
        self.parameters = trainable_parameters(self.policy)
        self.optimizer = make_optimizer(self.config.optimizer, self.parameters)
        self.stepper = self.make_stepper(self.optimizer)
        self.compute_in(precision)

    @cached_property
    def reference(self) -> Reference:
        """A reference of the kind that training makes."""
        return make_reference(self.policy)

    def compute_in(self, precision: str) -> None:
        """Sets the precision of autocast; weights stay as they were built.

        FloatingPointError if gradients in fp16 overflow at any scale.
        """
        self.precision, self.scaler = precision, None
        if precision == "fp16":
            self.scaler = self._settled_scaler

    @cached_property
    def _settled_scaler(self) -> torch.amp.GradScaler:
        self.scaler = torch.amp.GradScaler(self.device.type)
        method = self.method("seppo")
        batch = self.batch(method, 1)
        if not any(self.update(method, repeat(batch)) for _ in range(PATIENCE)):
            raise FloatingPointError(f"gradients in fp16 overflowed in {PATIENCE} updates, at ever smaller scales")
        return self.scaler

    def make_stepper(self, optimizer: torch.optim.Optimizer) -> Stepper:
        """Clips and steps as training does."""
        schedule = make_schedule(self.config.optimizer, optimizer, 10**6)
        norm = self.config.optimizer.max_grad_norm
        layout = Replicated(make_accelerator(), self.config.loop)
        return Stepper(layout, optimizer, schedule, list(self.parameters.values()), norm)

    def method(self, name: str, **choices: object) -> Method:
        """As a config that says `method.name=name` makes it."""
        return make_method(self.subject.config(self.mode, **({"name": name} | choices)).method)

    def batch(self, method: Method, count: int) -> Batch:
        """`count` random items of what the method learns from, on the device."""
        spec, draws = method.spec, method.anchor_draws
        latents = lambda *more: torch.randn(*more, count, *self.shape, device=self.device)  # noqa: E731
        second = spec.counterpart != "none"
        return Batch(
            x0=latents(),
            condition=self.conditions.draw(count, self.device),
            t=self._timesteps(count),
            noise=latents(),
            noise_path=self.noise_path,
            counterpart=latents() if second else None,
            counterpart_noise=latents() if second else None,
            desirable=torch.arange(count, device=self.device) % 2 == 0 if spec.supervision == "labels" else None,
            reward=torch.rand(count, device=self.device) if spec.supervision == "prompts" else None,
            anchor_t=torch.stack([self._timesteps(count) for _ in range(draws)]) if draws else None,
            anchor_noise=latents(draws) if draws else None,
        )

    def autocast(self) -> AbstractContextManager:
        return autocast(self.precision, self.device)

    def update(
        self, method: Method, batches: Iterable[Batch], count: int = 1, *, reference: Reference | None = None
    ) -> bool:
        """One optimiser step on the next `count` micro-batches; whether it was applied (`step`).

        What a method observes beforehand takes `count` batches of its own, as in training.
        """
        if method.spec.uses_reference:
            reference = self.reference if reference is None else reference
        taken = iter(batches)
        observed: dict[str, Tensor] = {}
        for batch in islice(taken, count) if method.observes else ():
            with self.autocast():
                _add(observed, method.observe(self.adapter, self.policy, reference, batch), count)
        totals: dict[str, Tensor] = {}
        for batch in islice(taken, count):
            with self.autocast():
                loss, metrics = method.loss(self.adapter, self.policy, reference, batch, observed)
            self.backward(loss / count)
            _add(totals, {"loss": loss.detach()} | metrics, count)
        return self.step(totals)

    def backward(self, loss: Tensor) -> None:
        """Runs the backward pass of a micro-batch's share of the loss."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self, watched: dict[str, Tensor], stepper: Stepper | None = None) -> bool:
        """Clips and steps; FloatingPointError if there is nothing to step with, unless a scaler is still looking
        for its scale."""
        stepper = self.stepper if stepper is None else stepper
        if self.scaler is not None:
            self.scaler.unscale_(stepper.optimizer)
        _, applied = stepper.step(watched)
        if self.scaler is not None:
            self.scaler.update()
        elif not applied:
            raise FloatingPointError("the loss or its gradient was not finite, so that no step was taken")
        return applied

    def _timesteps(self, count: int) -> Tensor:
        return self.noise_path.timesteps(torch.rand(count, dtype=torch.float64)).to(self.device)

    def held(self, *batches: Batch, reference: Reference | None = None) -> list[Tensor]:
        """The tensors that training keeps: policy, optimiser moments, `reference` and batches."""
        tensors = [*_without_reference(self.policy), *moments(self.optimizer)]
        if isinstance(reference, LoraView):
            tensors += [p for name, p in self.policy.named_parameters() if f".{REFERENCE}." in name]
        elif reference is not None:
            with reference.active() as module:
                tensors += _without_reference(module)
        return tensors + [tensor for batch in batches for tensor in _tensors_of(batch)]


def choose_tune(subject: Subject, precision: str, device: torch.device) -> tuple[Tune, str]:
    """How the base is tuned, and why it is not tuned as one would expect ("" if it is).

    ValueError if not even a LoRA fits the memory, or if what was asked for does not.
    """
    config = subject.config("lora")
    parameters = sum(p.numel() for p in build_adapter(config, torch.float32).denoiser.parameters())
    free = free_memory(device)
    # weights, their gradients, two moments and a reference, all float32; a LoRA's own share is small
    needed = {"full": 20 * parameters, "lora": parameters * DTYPES[precision].itemsize}
    wanted = subject.wanted_tune
    if needed[wanted] <= HEADROOM * free:
        return wanted, ""
    short = f"{needed[wanted] / GIB:.1f} GiB of the {free / GIB:.1f} that are free on the {device.type}"
    if wanted == "full" and subject.tune is None and needed["lora"] <= HEADROOM * free:
        return "lora", f"training all weights would take {short}, beside activations"
    cure = "try --tune lora" if wanted == "full" else "try --dtype bf16, or another machine"
    raise ValueError(f"{subject.title} with --tune {wanted} takes {short}, beside activations; {cure}")


def moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The tensors of an optimiser's state."""
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def _without_reference(model: nn.Module) -> Iterator[Tensor]:
    """Weights and buffers, those of a second LoRA left out."""
    yield from (p for name, p in model.named_parameters() if f".{REFERENCE}." not in name)
    yield from model.buffers()


def _tensors_of(batch: Batch) -> Iterator[Tensor]:
    yield from (value for value in vars(batch).values() if isinstance(value, Tensor))
    yield from batch.condition.values()


def _add(totals: dict[str, Tensor], metrics: dict[str, Tensor], count: int) -> None:
    for name, value in metrics.items():
        totals[name] = totals.get(name, 0) + value.detach().float() / count


class Unavailable(Exception):
    """A wish that cannot be met on this machine, with the reason in one line."""


@dataclass(frozen=True)
class Left:
    """A variant, or a whole comparison, that was not measured. `failed` if it should have been possible."""

    name: str
    reason: str
    failed: bool = False


@dataclass
class Prepared:
    """A comparison, ready to be timed."""

    variants: list[Variant]
    """The first is the baseline."""
    left: list[Left] = field(default_factory=list)
    remarks: Callable[[Sequence[Times]], list[str]] = lambda times: []
    """Sentences on what was measured, given the times."""
    close: Callable[[], object] = nothing
    """Restores the bench."""


@dataclass
class Stage:
    """The subject on its device, with one bench at a time."""

    subject: Subject
    mode: Tune
    device: torch.device
    precision: str
    sampling_steps: int
    folder: Path
    """Folder for files that are needed meanwhile."""
    named: bool = False
    """Whether comparisons were asked for by name, and may take what they take."""
    recomputed: bool = False
    """Whether `speed --plain` recomputes activations in the backward pass, in all ways."""
    _bench: Bench | None = None

    def bench(self, mode: Tune | None = None, precision: str | None = None) -> Bench:
        """The subject tuned in `mode` and computed in `precision`, by default the run's. The last one is kept."""
        mode, precision = mode or self.mode, precision or self.precision
        kept = self._bench
        # trained weights are float32 in any precision, those under a LoRA are not
        if kept is None or kept.mode != mode or (mode == "lora" and kept.built_in != precision):
            kept = None
            self.clear()
            self._bench = Bench(self.subject, mode, precision, self.device)
        self._bench.compute_in(precision)
        return self._bench

    def clear(self) -> None:
        """Lets the bench go, and its memory."""
        self._bench = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Comparison:
    """One idea: what is compared and why one would ask."""

    name: str
    title: str
    question: str
    make: Callable[[Stage], Prepared]
    """Unavailable if nothing of it can be measured here."""
