"""The noises that samples were drawn from, made again from their keys (`method.noise: tracked`).

A pair is then noised along the lines between each half and the noise that it came from, as PNAPO does (arXiv
2605.09433, 2026).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seppo_core.cache.reader import WinnerCache
from seppo_core.config.schema import Config
from seppo_core.io.rng import keyed_normal
from seppo_core.models.sampling import adds_noise, make_scheduler
from seppo_core.training.batches import Tracked
from seppo_core.training.judged import Judged
from seppo_core.training.loop_judge import JudgedSamples
from seppo_core.training.reference_samples import ReferenceSampler


@dataclass(frozen=True, kw_only=True)
class TrackedNoise:
    """Makes the noises of pairs again. `samples` draws the reference's own samples, `candidates` those that a judge
    chose among; `per_iteration` is the number of own samples of an iteration."""

    cache: WinnerCache
    samples: ReferenceSampler
    candidates: ReferenceSampler
    per_iteration: int

    def pair(
        self, positions: Sequence[int], items: Sequence[int], flipped: Sequence[bool], judged: Judged | None,
        losers: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The noises of winners and counterparts at the training `positions`, (b, c, [f], h, w) each."""
        if judged is not None:
            iteration = positions[0] // self.per_iteration
            winner = self.candidates.noise(iteration, judged.best(positions))
            if losers:
                return winner, self.candidates.noise(iteration, judged.worst(positions))
            return winner, self.samples.noise(iteration, positions)
        if losers:
            return tuple(
                torch.stack([self._of_item(*one, view) for one in zip(items, flipped, strict=True)])
                for view in self.cache.manifest.views
            )
        # draws that come again are of several iterations
        counterpart = torch.cat([self.samples.noise(place // self.per_iteration, [place]) for place in positions])
        own = [self._of_item(*one) for one in zip(items, flipped, strict=True)]
        # a winner from elsewhere was drawn from none
        winner = [sample if found is None else found for found, sample in zip(own, counterpart, strict=True)]
        return torch.stack(winner), counterpart

    def _of_item(self, item: int, flipped: bool, view: str | None = None) -> Tensor | None:
        """The noise of an item that `rank` drew, mirrored as it is; None of another."""
        found = self.cache.noise(item, view)
        if found is None:
            return None
        noise = keyed_normal(self.cache.latent_shape, *found["key"])
        return noise.flip(-1) if flipped else noise


def tracked_noise(
    config: Config, cache: WinnerCache, samples: ReferenceSampler, judged: JudgedSamples | None
) -> Tracked:
    """What makes the noises of a run's pairs again. ValueError if they cannot be known."""
    loop = config.loop
    if config.generated and adds_noise(make_scheduler(samples.settings.scheduler, samples.adapter.scheduler)):
        solver = type(samples.adapter.scheduler).__name__
        raise ValueError(
            f"method.noise=tracked needs samples that one noise gives, and the base's {solver} draws more between its "
            "steps; set reference_samples.scheduler, e.g. to ddim"
        )
    return TrackedNoise(
        cache=cache, samples=samples, candidates=samples if judged is None else judged.samples.sampler,
        per_iteration=loop.updates_per_iteration * loop.batch_size // config.reference_samples.uses,
    ).pair  # fmt: skip
