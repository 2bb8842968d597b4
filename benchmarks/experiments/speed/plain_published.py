"""`speed --plain --published`: the published bases in turn, each at its own size, those that fit the free memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from benchmarks.experiments.speed.bench import HEADROOM, Stage
from benchmarks.experiments.speed.measuring import GIB, free_memory
from benchmarks.experiments.speed.models import Subject, find_subject
from benchmarks.experiments.speed.plain import CAPTION
from benchmarks.experiments.speed.published import PUBLISHED
from benchmarks.gpu.memory import as_cast, config_of, planned
from seppo_core.config.messages import first_line
from seppo_core.config.training import PreviewConfig
from seppo_core.plan.measure import measure

Described = tuple[Stage, str]


@dataclass
class PublishedStages:
    """The stages of bases of the table, each made when its turn comes, by `make`. `left` says why others are not."""

    names: Sequence[str]
    device: torch.device
    precision: str
    batch: int
    rank: int
    make: Callable[[Subject], Described]
    left: dict[str, str] = field(default_factory=dict)
    recomputed: bool = False
    """Whether the policy's activations are recomputed in the backward pass."""

    def __iter__(self) -> Iterator[Described]:
        for name in self.names:
            try:
                stage = self._stage(name)
            except ValueError as error:
                self.left[name] = first_line(error)
                continue
            if stage is not None:
                yield stage

    def _stage(self, name: str) -> Described | None:
        entry = PUBLISHED[name]
        size = entry.on_cpu if self.device.type == "cpu" else entry.size
        if size is None:
            self.left[name] = f"a CPU takes more than minutes; --base {entry.base} with a size of yours measures it"
            return None
        height, width, *frames = size
        subject = find_subject(
            entry.base, height=height, width=width, frames=frames[0] if frames else None, tune="lora",
            batch=self.batch, rank=self.rank,
        )  # fmt: skip
        needed, free = plain_peak(subject, self.precision, self.recomputed), free_memory(self.device)
        if needed > HEADROOM * free:
            self.left[name] = (
                f"the plain way takes {needed / GIB:.1f} GiB at {subject.size}, of the {free / GIB:.1f} that are free "
                f"on the {self.device.type}"
            )
            return None
        return self.make(subject)


def plain_peak(subject: Subject, precision: str, recomputed: bool = False) -> int:
    """Bytes that the plain way takes at its peak, by `plan`: of an update that keeps all activations or recomputes
    them, of encoding its pictures, or of decoding its samples."""
    config = config_of(subject, precision)
    config = replace(
        config,
        loop=replace(config.loop, gradient_checkpointing=recomputed),
        preview=PreviewConfig(prompts=(CAPTION,), per_prompt=subject.batch),
    )
    costs = measure(config)
    # the VAE is counted with what the plain way holds
    parts = planned(config, replace(costs, decoding=None), plain=True)
    beside = max(parts["activations"], as_cast(config, costs, costs.decoding))
    return sum(parts.values()) - parts["activations"] + beside
