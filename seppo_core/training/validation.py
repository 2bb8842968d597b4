"""Items that training never sees, measured on draws that never change: whether what is learnt holds for others."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seppo_core.cache.reader import WinnerCache
from seppo_core.io import purposes
from seppo_core.io.rng import NEWEST, Draws, keyed_stream
from seppo_core.methods.errors import accuracy
from seppo_core.methods.step import denoise
from seppo_core.models.adapter import Adapter
from seppo_core.models.noise_path import NoisePath
from seppo_core.training.batches import WinnerOrder
from seppo_core.training.parallel import ParallelStrategy
from seppo_core.training.setup import RunParts


def make_validation(
    parts: RunParts, layout: ParallelStrategy, order: WinnerOrder, held_out: Tensor
) -> "Validation | None":
    """The validation of a run on a cache of its own or on the items `held_out`; without either, of a method without a
    reference, what measures the start on the first winners of `order`. None if nothing is to be measured."""
    config, method = parts.config, parts.method
    if config.data.supervision == "prompts":
        # there are no winners but those that a judge will choose
        return None
    loop, cache = config.loop, parts.validation or parts.cache
    if parts.validation is not None:
        items = keyed_stream(config.draws, config.seed, purposes.HELD_OUT).permutation(len(cache)).tolist()
    else:
        items = held_out.tolist()
    every = loop.validate_every if items else 0
    if not items and not method.spec.uses_reference:
        items = [order.item(position) for position in range(min(order.length, loop.validate_items))]
    if not items:
        return None
    return Validation(
        cache=cache, items=items[: loop.validate_items], adapter=parts.adapter, noise_path=parts.noise_path,
        layout=layout, seed=config.seed, chunk=loop.micro_batch_size, every=every,
        beta=vars(method).get("beta") if method.spec.uses_reference else None,
        posterior=config.data.posterior, draws=config.draws,
    )  # fmt: skip


@dataclass(kw_only=True)
class Validation:
    """Measures the policy on some items of a cache, each at one timestep and noise of its own that never change.

    The timesteps of all items together cover the path evenly; both halves of a pair have one noise; no caption is
    dropped and nothing mirrored. What is measured is held against the weights that the run starts from, on the same
    draws, so that what the draws add to both falls out.
    """

    cache: WinnerCache
    items: list[int]
    adapter: Adapter
    noise_path: NoisePath
    layout: ParallelStrategy
    seed: int
    chunk: int
    """Items in one forward pass. What a chunk holds does not depend on the process that computes it."""
    every: int
    """Updates between two measurements; the last update has one too. 0 measures the start alone."""
    beta: float | None = None
    """Factor of `held_out_margin`; None leaves that out."""
    posterior: Literal["draw", "mode"] = "draw"
    draws: Draws = NEWEST

    def __post_init__(self):
        self.views = self.cache.manifest.views
        self.good = torch.ones(len(self.items), dtype=torch.bool)
        if self.cache.form == "labels":
            self.good = self.cache.labels(self.items)
            if not self.good.any():
                raise ValueError(
                    f"none of the {len(self.items)} items of the validation is labelled good; hold out more"
                )
        self.order = keyed_stream(self.draws, self.seed, purposes.VALIDATION_TIMES).permutation(len(self.items))
        self.start: Tensor | None = None

    def begin(self) -> dict[str, float]:
        """Measures the weights that the run starts from; its mean error, and the standard error of that mean. All
        processes must call it, before a checkpoint is loaded."""
        self.start = self._errors()
        errors = self.start[0][self.good]
        return {"start_error": float(errors.mean()), "start_noise": _standard_error(errors)}

    def due(self, update: int, last: int) -> bool:
        """Whether the weights after `update` are to be measured."""
        return self.every > 0 and (update % self.every == 0 or update == last)

    def metrics(self) -> dict[str, float]:
        """What the weights of now give. All processes must call it.

        `held_out_error` is the mean error on the winners (or items labelled good), `held_out_start` that of the start,
        and `held_out_noise` the standard error of their difference. `held_out_accuracy` is the share of the items whose
        preference has moved the right way since the start, ties counting half: for a pair, that the winner's error has
        fallen by more than the loser's; for a labelled item, that the error of a good one has fallen, or that of a bad
        one risen; for a winner alone, that its error has fallen. `held_out_margin` is β times the mean of that move.
        """
        now = self._errors()
        gain = self.start - now
        move = gain[0] - gain[1] if len(gain) == 2 else torch.where(self.good, gain[0], -gain[0])
        found = {
            "held_out_error": float(now[0][self.good].mean()),
            "held_out_start": float(self.start[0][self.good].mean()),
            "held_out_noise": _standard_error(gain[0][self.good]),
            "held_out_accuracy": float(accuracy(move)),
        }
        return found if self.beta is None else found | {"held_out_margin": self.beta * float(move.mean())}

    @torch.no_grad()
    def _errors(self) -> Tensor:
        """Errors of the policy on the items' views, (views, n), float64 on the CPU; the same on all processes."""
        groups, device = self.layout.groups, self.layout.accelerator.device
        found = torch.zeros(len(self.views), len(self.items), dtype=torch.float64)
        chunks = [range(i, min(i + self.chunk, len(self.items))) for i in range(0, len(self.items), self.chunk)]
        for first in range(0, len(chunks), groups.world):
            number = first + groups.rank
            # a forward pass of a sharded model needs all processes
            if number < len(chunks) or self.layout.collective:
                places = chunks[number % len(chunks)]
                errors = self._chunk(places, device)
                if number < len(chunks) and self.layout.leads:
                    found[:, places.start : places.stop] = errors.double().cpu()
        # each is 0 on all processes but one
        return self.layout.accelerator.reduce(found.to(device), reduction="sum").cpu()

    def _chunk(self, places: range, device: torch.device) -> Tensor:
        items, shape = [self.items[place] for place in places], self.cache.latent_shape
        streams = [keyed_stream(self.draws, self.seed, purposes.VALIDATION, place) for place in places]
        jitter = torch.cat([stream.uniform(1) for stream in streams])
        t = self.noise_path.timesteps((self.order[places.start : places.stop] + jitter) / len(self.items)).to(device)
        noise = torch.stack([stream.normal(shape) for stream in streams]).to(device)
        errors = []
        for view in self.views:
            posterior = self.cache.posterior(items, [False] * len(items), view)
            latents = posterior.mean
            if self.posterior == "draw":
                latents = posterior.sample(torch.stack([stream.normal(shape) for stream in streams]))
            condition = self.cache.condition(items, [False] * len(items), view)
            condition = {key: value.to(device) for key, value in condition.items()}
            with self.layout.accelerator.autocast():
                passed = denoise(
                    self.adapter, self.adapter.denoiser, self.noise_path, latents.to(device), noise, t, condition
                )
            errors.append(passed.errors)
        return torch.stack(errors)


def _standard_error(values: Tensor) -> float:
    """Of the mean of `values`; 0 for a single one."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
