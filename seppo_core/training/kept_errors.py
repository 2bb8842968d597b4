"""The errors of a reference that never moves, on disk: measured where a draw comes first, read where it comes again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import torch
from torch import Tensor, nn

from seppo_core.config.loader import plain
from seppo_core.methods.reference import Reference
from seppo_core.methods.step import Held, held_errors, held_of
from seppo_core.models.adapter import Adapter
from seppo_core.run.recorder import RunRecorder
from seppo_core.run.status import BUFFER, ERRORS
from seppo_core.run.stopping import StopCoordinator
from seppo_core.training.batches import BatchMaker
from seppo_core.training.parallel import ParallelStrategy
from seppo_core.training.prefetch import Prefetch
from seppo_core.training.reference_samples import KeptBuffers, ReferenceSamples
from seppo_core.training.setup import RunParts

CHUNK = 64
"""Least number of positions in a file."""


@dataclass(frozen=True, kw_only=True)
class ReferenceErrors:
    """Measures a reference's errors at training positions: by micro-batches as training cuts them, so that a draw has
    the error that its pass within the update would give."""

    adapter: Adapter
    batches: BatchMaker
    device: torch.device
    micro_batch: int
    chunk: int
    """Positions in a file, a multiple of `micro_batch`."""
    prefetch: int
    settings: str
    """What else decides the errors, of the config."""
    in_step: bool = False
    """Whether every chunk takes as many passes, since a pass needs all processes."""
    samples: KeptBuffers | None = None
    """The counterparts, if the reference has drawn them."""
    purpose: str = "error"

    def about(self, snapshot: str) -> str:
        """A hash of all that the errors depend on; `snapshot` is that of the reference's weights."""
        cache, order = self.batches.cache, self.batches.order
        on = (snapshot, cache.fingerprint, order.length, order.seed, order.draws, self.settings)
        return sha256(repr(on).encode()).hexdigest()

    def steps(self, reference: nn.Module, iteration: int, positions: range) -> Iterator[Tensor]:
        """The errors after each micro-batch, (n, columns) as `held_errors` gives them; the last are all."""
        size = self.micro_batch
        parts = [positions[first : first + size] for first in range(0, len(positions), size)]
        if self.in_step:
            parts += parts[-1:] * (self.chunk // size - len(parts))
        found = []
        make = lambda part: self.batches.at(part, self.samples, self.device)  # noqa: E731
        with Prefetch(make, parts, self.prefetch) as made:
            for batch in made:
                found.append(held_errors(self.adapter, reference, batch))
                yield torch.cat(found)[: len(positions)]


class KeptErrors:
    """Fills the run's store of errors, iteration by iteration, and gives them back by position."""

    def __init__(self, store: ReferenceSamples, contrastive: bool):
        self.store, self.contrastive = store, contrastive
        self._read: dict[int, Tensor] = {}

    def fill(
        self, iteration: int, reference: Reference, snapshot: str, stop: StopCoordinator, recorder: RunRecorder,
        samples: KeptBuffers | None,
    ) -> None:  # fmt: skip
        """Measures those that are not there yet up to this iteration, on all processes; `snapshot` is the hash of the
        reference's weights, and `samples` are its samples, if they are the counterparts."""
        self.store.sampler = replace(self.store.sampler, samples=samples)
        self.store.fill(iteration, reference, snapshot, stop, recorder)
        for number, buffer in self.store.buffers.items():
            if number not in self._read:
                self._read[number] = buffer.whole()

    def remove(self) -> None:
        """Removes the store."""
        self.store.remove()

    def at(self, positions: Sequence[int]) -> Held:
        """The errors at `positions` of the first epochs, (b,) each, float32 on the CPU."""
        size = self.store.size
        found = [self._read[position // size][position % size] for position in positions]
        return held_of(torch.stack(found), self.contrastive)


def kept_errors(parts: RunParts, layout: ParallelStrategy, batches: BatchMaker, kept: int) -> KeptErrors:
    """The store of a run's errors, of its first `kept` positions."""
    config = parts.config
    loop, data = config.loop, config.data
    chunk = loop.micro_batch_size * max(1, CHUNK // loop.micro_batch_size)
    # all else that decides them cannot change without the folder of the store being emptied (`open_run`)
    settings = [plain(config)["method"], data.caption_dropout, data.flip, data.posterior, loop.mixed_precision]
    meter = ReferenceErrors(
        adapter=parts.adapter, batches=batches, device=layout.accelerator.device, micro_batch=loop.micro_batch_size,
        chunk=chunk, prefetch=config.data.prefetch, settings=repr(settings), in_step=layout.collective,
    )  # fmt: skip
    store = ReferenceSamples(
        parts.folder / BUFFER / ERRORS, layout, meter, size=loop.updates_per_iteration * loop.batch_size, chunk=chunk,
        kept=kept, note=RunRecorder.measured,
    )  # fmt: skip
    return KeptErrors(store, config.method.spec.contrastive)
