"""An update and a sample the plain way, beside ours: what a user of a published script runs.

Written from the description of Diffusion-DPO's training (arXiv 2311.12908, 2023) and fair to it: one concatenated
forward pass for each network, the same precision and attention kernels, samples in batches by the pipeline's own
solver. It holds a second full copy of the denoiser, encodes pictures and captions in every step, and its own samples go
through pixels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.experiments.speed.bench import DTYPES, Bench, moments
from benchmarks.experiments.speed.measuring import nothing
from benchmarks.experiments.speed.models import encoding_adapter, random_adapter
from seppo_core.cache.reader import WinnerCache
from seppo_core.methods.reference import REFERENCE, Reference
from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.models.tuning import trainable_state
from seppo_core.training.batches import BatchMaker, WinnerOrder

PARTS = ("data", "reference", "policy forward", "backward", "optimiser")
CAPTION = "a photograph of a red fox in fresh snow, seen from the side"
GUIDANCE = 7.5
Held = dict[str, list[Tensor]]
"""Tensors that stay between two updates, by part."""


@dataclass
class Marks:
    """Seconds by part, of the calls since the last `take`; the device has done its work at every mark."""

    clock: Callable[[], float] = perf_counter
    synchronize: Callable[[], object] = nothing
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self.synchronize()
        began = self.clock()
        yield
        self.synchronize()
        self.seconds[part] = self.seconds.get(part, 0.0) + self.clock() - began

    def take(self) -> dict[str, float]:
        taken, self.seconds = self.seconds, {}
        return taken


class Ours:
    """The trainer's update on batches that are read from a cache on the disk, and samples that stay latents."""

    def __init__(self, bench: Bench, count: int, marks: Marks, cache: WinnerCache, method: str = "dpo"):
        self.bench, self.count, self.marks, self.done = bench, count, marks, 0
        self.method = bench.method(method, **({"beta": 2500.0} if method == "dpo" else {}))
        self.reference = None
        if self.method.spec.uses_reference:
            # as in a run: the weights that it starts from
            bench.reference.load(trainable_state(bench.policy))
            self.reference = _Marked(bench.reference, marks)
        data = bench.config.data
        self.maker = BatchMaker(
            cache=cache, order=WinnerOrder(len(cache), 0), noise_path=bench.noise_path, seed=0, batch_size=count,
            caption_dropout=data.caption_dropout, flip=data.flip, posterior=data.posterior, noise=self.method.noise,
            losers=self.method.spec.counterpart == "loser",
        )  # fmt: skip

    def update(self) -> float:
        """One optimiser step; the loss."""
        b, marks = self.bench, self.marks
        with marks("data"):
            batch = self.maker.make(self.done, range(self.count), None, b.device)
        self.done += 1
        with marks("policy forward"), b.autocast():
            loss, metrics = self.method.loss(b.adapter, b.policy, self.reference, batch, {})
        with marks("backward"):
            b.backward(loss)
        with marks("optimiser"):
            b.step({"loss": loss.detach()} | metrics)
        return float(loss.detach())

    def sample(self, steps: int, solver: str) -> Tensor:
        """Latents of the reference for a batch, with guidance."""
        with self.marks("solver"), self.bench.reference.active() as denoiser:
            return draw(self.bench, denoiser, self.count, steps, solver)

    def parts(self) -> Held:
        policy = self.bench.held()
        reference = self.bench.held(reference=self.bench.reference)[len(policy) :]
        return {"policy": _policy(self.bench), "reference": reference, "moments": moments(self.bench.optimizer)}


class Plain:
    """The published way. It trains the same policy with the same optimiser object."""

    def __init__(self, bench: Bench, count: int, marks: Marks, beta: float = 5000.0):
        self.bench, self.count, self.marks, self.beta = bench, count, marks, beta
        # as the script has what it does not train, whatever the policy's weights are kept in
        dtype, device = DTYPES[bench.precision], bench.device
        self.encoders: Adapter = encoding_adapter(bench.config, dtype, device)
        # the second full copy
        self.reference = random_adapter(bench.config, dtype, device).denoiser
        subject = bench.subject
        size = (subject.frames,) if subject.modality == "video" else ()
        self.pixels = 2 * torch.rand(2 * count, 3, *size, subject.height, subject.width, device=device) - 1

    @torch.no_grad()
    def encode(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Latents of winners and losers, and the captions' conditions."""
        posterior = self.encoders.encode(self.pixels)
        latents = posterior.sample(torch.randn_like(posterior.mean))
        condition = self.encoders.encode_prompts([CAPTION] * self.count)
        return latents, condition | self.framing()

    def framing(self) -> dict[str, Tensor]:
        """What the denoiser is told of sizes."""
        drawn = self.bench.conditions.draw(self.count, self.bench.device)
        return {name: drawn[name] for name in self.bench.conditions.framing}

    def update(self) -> float:
        """One optimiser step; the loss."""
        b, marks = self.bench, self.marks
        with marks("data"):
            latents, condition = self.encode()
            noise, t = torch.randn_like(latents), self.timesteps()
        loss = self.loss(latents, noise, t, condition)
        with marks("backward"):
            b.backward(loss)
        with marks("optimiser"):
            b.step({"loss": loss.detach()})
        return float(loss.detach())

    def timesteps(self) -> Tensor:
        drawn = torch.rand(self.count, dtype=torch.float64)
        return self.bench.noise_path.timesteps(drawn).to(self.bench.device)

    def loss(self, latents: Tensor, noise: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        """−log σ(−β/2 · (policy's difference − reference's)) of mean squared errors, winners first."""
        b, path = self.bench, self.bench.noise_path
        t = torch.cat([t, t])
        condition = {name: torch.cat([value, value]) for name, value in condition.items()}
        noisy, target = path.add_noise(latents, noise, t), path.target(latents, noise, t)

        def difference(denoiser: nn.Module) -> Tensor:
            predicted = b.adapter.predict(denoiser, noisy, t, condition)
            errors = F.mse_loss(predicted.float(), target.float(), reduction="none").flatten(1).mean(1)
            winner, loser = errors.chunk(2)
            return winner - loser

        with b.autocast():
            with self.marks("reference"), torch.no_grad():
                held = difference(self.reference)
            with self.marks("policy forward"):
                return -F.logsigmoid(-self.beta / 2 * (difference(b.policy) - held)).mean()

    def sample(self, steps: int, solver: str) -> Tensor:
        """Pixels of the reference for a batch, with guidance."""
        with self.marks("solver"):
            latents = draw(self.bench, self.reference, self.count, steps, solver)
        with self.marks("decoding"), torch.no_grad():
            return self.encoders.decode(latents)

    def parts(self) -> Held:
        components = self.encoders.pipeline.components.items()
        texts = [part for name, part in components if name.startswith("text_encoder") and part is not None]
        return {
            "policy": _policy(self.bench),
            "reference": list(self.reference.parameters()),
            "moments": moments(self.bench.optimizer),
            "VAE": list(self.encoders.pipeline.vae.parameters()),
            "text encoders": [parameter for part in texts for parameter in part.parameters()],
            "pictures": [self.pixels],
        }


class Bare:
    """The arithmetic of a DPO update and nothing else: its inputs are at hand, the reference is a module of its own,
    the step is torch's. What a loop takes beyond that is its overhead."""

    def __init__(self, plain: Plain):
        self.plain, b, count = plain, plain.bench, plain.count
        self.latents, self.noise = torch.randn(2, 2 * count, *b.shape, device=b.device)
        self.t, self.condition = plain.timesteps(), b.conditions.draw(count, b.device)

    def update(self) -> None:
        b, marks = self.plain.bench, self.plain.marks
        loss = self.plain.loss(self.latents, self.noise, self.t, self.condition)
        with marks("backward"):
            b.backward(loss)
        with marks("optimiser"):
            if b.scaler is not None:
                b.scaler.unscale_(b.optimizer)
            nn.utils.clip_grad_norm_(list(b.parameters.values()), b.config.optimizer.max_grad_norm)
            b.optimizer.step() if b.scaler is None else b.scaler.step(b.optimizer)
            if b.scaler is not None:
                b.scaler.update()
            b.optimizer.zero_grad(set_to_none=True)


def draw(bench: Bench, denoiser: nn.Module, count: int, steps: int, solver: str) -> Tensor:
    """Latents of a batch, guidance in one pass."""
    condition = bench.conditions.draw(count, bench.device)
    noise = torch.randn(count, *bench.shape, device=bench.device)
    with torch.no_grad(), bench.autocast():
        return sample(
            bench.adapter, denoiser, condition, noise=noise, steps=steps, guidance_scale=GUIDANCE,
            unconditional=bench.conditions.draw_text(1, bench.device),
            scheduler=make_scheduler(solver, bench.adapter.scheduler),
        )  # fmt: skip


def _policy(bench: Bench) -> list[Tensor]:
    """Weights of the policy, without the reference's LoRA."""
    return [p for name, p in bench.policy.named_parameters() if f".{REFERENCE}." not in name]


class _Marked(Reference):
    """A reference whose passes are marked, and taken off the part that they are in."""

    def __init__(self, reference: Reference, marks: Marks):
        super().__init__(reference.denoiser)
        self.reference, self.marks = reference, marks

    def _load(self, state: dict[str, Tensor]) -> None:
        self.reference.load(state)

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        before = self.marks.seconds.get("reference", 0.0)
        with self.marks("reference"), self.reference.active() as module:
            yield module
        seconds = self.marks.seconds
        seconds["policy forward"] = seconds.get("policy forward", 0.0) - (seconds["reference"] - before)
