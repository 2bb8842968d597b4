"""Fills an iteration's buffer with samples of its reference."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seppo_core.cache.reader import WinnerCache
from seppo_core.io import purposes
from seppo_core.io.rng import keyed_generator, keyed_normal
from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.training.batches import WinnerOrder


@dataclass(frozen=True)
class ReferenceSampler:
    """Latents that a reference generates for the captions of the winners at given positions.

    The initial noise of a sample is keyed by (seed, iteration, position): two uses of one winner in an iteration get
    two different samples, and no draw depends on the batch or process it is made in.
    """

    adapter: Adapter
    cache: WinnerCache
    order: WinnerOrder
    seed: int
    steps: int
    guidance_scale: float
    scheduler: str
    reencode: bool
    device: torch.device

    def __call__(
        self,
        reference: nn.Module,
        iteration: int,
        positions: range,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Reference samples for `positions`, (n, c, [f], h, w), in the cache's latent space.

        `progress` is called between the solver's steps (`sample`).
        """
        items = [self.order.item(position) for position in positions]
        shape = self.cache.latent_shape
        noise = torch.stack([keyed_normal(shape, self.seed, purposes.SAMPLE, iteration, p) for p in positions])
        condition = self.cache.condition(items, [False] * len(items))
        latents = sample(
            self.adapter,
            reference,
            {key: value.to(self.device) for key, value in condition.items()},
            noise=noise.to(self.device),
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            unconditional={key: value.to(self.device) for key, value in self.cache.unconditional().items()},
            scheduler=make_scheduler(self.scheduler, self.adapter.scheduler),
            generators=[keyed_generator(self.seed, purposes.SAMPLER, iteration, p) for p in positions],
            progress=progress,
        )
        return self._through_pixels(latents, iteration, positions) if self.reencode else latents

    def _through_pixels(self, latents: Tensor, iteration: int, positions: range) -> Tensor:
        """Decodes to 8-bit pixels and encodes again, as a winner's file is: so that the loss cannot tell winner from
        sample by the autoencoder's trace. Draws from the posterior as training draws the winners."""
        pixels = self.adapter.decode(latents).clamp(-1, 1)
        pixels = ((pixels + 1) * 127.5).round() / 127.5 - 1
        posterior = self.adapter.encode(pixels)
        shape = self.cache.latent_shape
        noise = torch.stack([keyed_normal(shape, self.seed, purposes.REENCODE, iteration, p) for p in positions])
        return posterior.draw(noise.to(posterior.mean))
