"""The numbers of a plan: records that `estimate` fills and `report` prints."""

from dataclasses import dataclass, field

from seppo_core.config.gpus import GIB
from seppo_core.plan.memory import Phases


@dataclass(frozen=True)
class Parameters:
    """Parameter counts of the denoiser without a LoRA and of the trained weights."""

    denoiser: int
    trained: int
    what: str
    """Description of the trained weights."""


@dataclass(frozen=True)
class Counts:
    """Numbers of updates and samples. `calls` counts the forward passes of one reference sample, guidance included."""

    updates: int
    iterations: int
    batch_size: int
    trained_samples: int
    """Winners seen by training, repetitions included."""
    generated_per_iteration: int
    generated: int
    calls: int
    judged_per_iteration: int = 0
    """Of those generated, samples of the policy that loop.judge scores."""
    drawn: int = 0
    """Of the trained samples, those with draws of their own; the others repeat them (loop.reference_draws)."""
    uses: int = 1
    """Pairs of an iteration that each generated sample serves (reference_samples.uses)."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations; a multiply-add counts as two."""

    forward: int
    """One forward pass of the policy over one item."""
    update: int
    update_reference: int
    """The part of `update` that the reference computes. With loop.reference_draws an update whose draws came before
    does without it."""
    generated_sample: int
    training: int
    generation: int
    previews: int


@dataclass(frozen=True)
class Hours:
    """Hours on the named GPUs at the assumed utilisation; `prepare` is None if the number of items is unknown."""

    training: float
    generation: float
    previews: float
    prepare: float | None
    moving: float = 0.0
    """Added to training and generation by weights that are kept in fewer bits or in CPU memory."""
    first_epoch: float | None = None
    """Of training and generation, what an epoch takes that has draws of its own; None if the number of items is unknown
    or no draw is kept."""
    later_epoch: float | None = None
    """The same of an epoch whose draws came before."""

    @property
    def total(self) -> float:
        """Hours of `train`; `prepare` runs once before it and is not included."""
        return self.training + self.generation + self.previews + self.moving


@dataclass(frozen=True)
class Disk:
    """Bytes on disk. `cache` is None if the number of items is unknown."""

    cache: int | None
    per_item: int
    """Bytes of one item in the cache, its own caption included."""
    samples: int
    """Generated samples of one iteration, which are deleted when it ends; of all until the run ends, if they come
    again."""
    pool: int
    checkpoints: int
    errors: int = 0
    """The reference's errors that are kept."""


@dataclass(frozen=True)
class Plan:
    """A whole plan in bytes, FLOPs and hours; `report` prints it."""

    run: str
    base: str
    numbers: str
    method: str
    gpu: str
    gpus: int
    memory_of_gpu: int
    parameters: Parameters
    phases: Phases
    """Bytes on each GPU by phase and by part."""
    activations: dict[str, int]
    """Peak bytes of one micro-batch without and with gradient checkpointing."""
    host: int
    """Bytes that each process keeps in host memory."""
    host_at_start: int
    """Host bytes at the start, until the text encoders are freed."""
    of_host: int | None
    """Bytes of the machine's own memory; None if they are not known."""
    on_one_host: int
    """Processes that share it."""
    counts: Counts
    flops: Flops
    hours: Hours
    disk: Disk
    items: int | None
    items_from: str
    encode_batch_size: int
    """Encoding batch that `prepare` uses on this GPU: the configured one, halved until it fits."""
    fits: bool
    notes: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)

    @property
    def fits_host(self) -> bool:
        """Whether the machine's own memory is not known to be too small."""
        return self.of_host is None or self.host * self.on_one_host <= self.of_host


def host_words(plan: Plan) -> str:
    """What the run holds in the machine's own memory, in words, and what is known of that."""
    several = f" in each of {plan.on_one_host} processes" if plan.on_one_host > 1 else ""
    text = f"{plan.host / GIB:.1f} GiB of the machine's own memory{several}"
    if plan.of_host is None:
        return f"{text}, which is not checked: --host_memory GIB does"
    return f"{text}, of {plan.of_host / GIB:.1f} GiB{'' if plan.fits_host else ': too little'}"


def span(hours: float) -> str:
    """`hours` as text in a readable unit, from seconds to years."""
    if hours < 1 / 3600:
        return "under a second" if hours else "0 seconds"
    for limit, unit, size in [
        (1 / 60, "seconds", 1 / 3600),
        (1, "minutes", 1 / 60),
        (100, "hours", 1),
        (24 * 365, "days", 24),
    ]:
        if hours < limit:
            return f"{hours / size:,.1f} {unit}"
    return f"{hours / 24 / 365:,.1f} years"
