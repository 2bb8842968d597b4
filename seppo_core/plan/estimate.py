"""What a run would do and take, from its config alone: parameters, memory, work, disk and hours."""

from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from seppo_core.cache.reader import Manifest
from seppo_core.config.gpus import GIB, GPUS, Gpu
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import Config
from seppo_core.data.discover import find_source
from seppo_core.data.open import open_records
from seppo_core.plan.architecture import ArchitectureConfig
from seppo_core.plan.memory import Phases, encode_batch, memory, moments, peak
from seppo_core.plan.suggestions import cures
from seppo_core.plan.work import Build, Conditions, Work, measure
from seppo_core.run.disk_budget import pool_entries

MONTH = 30 * 24
"""Hours beyond which a run is called unrealistic."""


@dataclass(frozen=True)
class Parameters:
    """Counts: of the denoiser without a LoRA, and of what is trained."""

    denoiser: int
    trained: int
    what: str


@dataclass(frozen=True)
class Counts:
    """What a run goes through. `calls` are forward passes that one reference sample takes, guidance's included."""

    updates: int
    iterations: int
    batch_size: int
    trained_samples: int
    """Winners that pass through training, with repetition."""
    generated_per_iteration: int
    generated: int
    calls: int


@dataclass(frozen=True)
class Flops:
    """A multiplication and an addition are two."""

    forward: int
    """Of the policy over one item."""
    update: int
    update_reference: int
    """The reference's share of it."""
    generated_sample: int
    training: int
    generation: int
    previews: int


@dataclass(frozen=True)
class Hours:
    """On the named GPUs at the assumed utilisation; None where the number of items is not known."""

    training: float
    generation: float
    previews: float
    prepare: float | None

    @property
    def total(self) -> float:
        """Of `train`; `prepare` is done once, before."""
        return self.training + self.generation + self.previews


@dataclass(frozen=True)
class Disk:
    """In bytes. `cache` is None where the number of items is not known."""

    cache: int | None
    per_item: int
    """Of the cache, with a caption of its own."""
    samples: int
    """Of one iteration's reference samples, which go when it is over."""
    pool: int
    checkpoints: int


@dataclass(frozen=True)
class Plan:
    """All of it, in bytes, FLOPs and hours; `plan_report` shows it."""

    run: str
    base: str
    numbers: str
    method: str
    gpu: str
    gpus: int
    memory_of_gpu: int
    parameters: Parameters
    phases: Phases
    """Bytes on each GPU by what a run is doing and by part."""
    activations: dict[str, int]
    """Peak of one micro-batch without and with gradient checkpointing."""
    host: int
    """Bytes that each process keeps in the machine's own memory."""
    host_at_start: int
    """The same until the previews' prompts are encoded."""
    counts: Counts
    flops: Flops
    hours: Hours
    disk: Disk
    items: int | None
    items_from: str
    encode_batch_size: int
    """What `prepare` comes down to by itself on this GPU."""
    fits: bool
    notes: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)


def make_plan(
    config: Config, request: PlanRequest, numbers: ArchitectureConfig, build: Build, conditions: Conditions
) -> Plan:
    """Counts the work of `config` on a model without memory, and what it takes on the request's GPUs."""
    work = measure(config, build, conditions)
    gpu = GPUS[request.gpu]
    phases = memory(config, work, request.gpus, gpu.memory)
    flops, counts = _flops(config, work), _counts(config, work)
    items, items_from, cached = _items(config, request)
    per_hour = 3600e12 * request.utilisation
    speed = per_hour * (gpu.half if _half(config) else gpu.single)
    hours = Hours(
        training=flops.training / speed / request.gpus,
        generation=flops.generation / speed / request.gpus,
        # the main process draws them while the others wait
        previews=flops.previews / speed,
        prepare=None if items is None else _encoding(config, work, items) / (per_hour * _vae_rate(work, gpu)),
    )
    held = peak(phases)
    plan = Plan(
        run=config.run,
        base=config.model.base,
        numbers=numbers.origin,
        method=config.method.name,
        gpu=gpu.title,
        gpus=request.gpus,
        memory_of_gpu=gpu.memory,
        parameters=Parameters(work.weights.parameters, work.weights.trained, _what(config, work)),
        phases=phases,
        activations={"without checkpointing": work.steps[False].peak, "with checkpointing": work.steps[True].peak},
        host=_host(config, work),
        host_at_start=_host(config, work) + sum(work.weights.texts.values()),
        counts=counts,
        flops=flops,
        hours=hours,
        disk=_disk(config, work, items, cached),
        items=items,
        items_from=items_from,
        encode_batch_size=encode_batch(config, work, gpu.memory),
        fits=held <= gpu.memory,
        assumptions=_assumptions(config, request, gpu),
    )
    notes = _notes(config, request, plan, gpu, work)
    if not plan.fits:
        notes = [*cures(config, work, build, conditions, gpu, request.gpus), *notes]
    return replace(plan, notes=[*notes, *_refused(config, request)])


def _half(config: Config) -> bool:
    """Whether the run computes in half precision."""
    return config.loop.mixed_precision != "no" or (config.tune.mode == "lora" and config.model.dtype != "float32")


def _vae_rate(work: Work, gpu: Gpu) -> float:
    """TFLOPS of the VAE's convolutions."""
    return gpu.convolutions if work.weights.dtypes["vae"] == "float32" else gpu.half


def _what(config: Config, work: Work) -> str:
    t = config.tune
    if t.mode == "full":
        return "all weights" if t.scope == "all" else f"the weights of scope {t.scope}"
    where = "attention projections" if t.scope == "all" else f"attention projections of scope {t.scope}"
    return f"a LoRA of rank {t.rank} on the {where}"


def _host(config: Config, work: Work) -> int:
    """Bytes of what stays in the machine's own memory for each process."""
    vae = 0 if work.decoding is not None else work.weights.vae
    return vae + config.loop.offload_reference * work.weights.reference


def _counts(config: Config, work: Work) -> Counts:
    loop = config.loop
    updates = loop.iterations * loop.updates
    generated = loop.updates * loop.batch_size if config.method.recipe.second == "generated" else 0
    return Counts(
        updates, loop.iterations, loop.batch_size, updates * loop.batch_size, generated, generated * loop.iterations,
        work.calls,
    )  # fmt: skip


def _flops(config: Config, work: Work) -> Flops:
    loop, counts = config.loop, _counts(config, work)
    micro_batches = loop.batch_size // loop.micro_batch_size
    update = micro_batches * (work.steps[loop.gradient_checkpointing].flops + work.observe)
    sample = 0
    if work.denoising is not None:
        calls = work.calls // (2 if work.guided else 1)
        sample = calls * work.denoising.flops // config.reference_samples.batch_size
        if config.reference_samples.reencode and work.decoding is not None:
            again = work.decoding.flops // work.decoded + work.encoding.flops // config.data.encode_batch_size
            sample += again
    p = config.preview
    drawings = 2 + ((counts.updates - 1) // p.every if p.every else 0) if p.prompts else 0
    row = p.per_prompt * p.steps * work.forward * (1 + work.previews_guided)
    decoded = 0 if work.decoding is None else work.decoding.flops * p.per_prompt // work.decoded
    return Flops(
        forward=work.forward,
        update=update,
        update_reference=micro_batches * work.step_reference,
        generated_sample=sample,
        training=update * counts.updates,
        generation=sample * counts.generated,
        previews=drawings * len(p.prompts) * (row + decoded),
    )


def _encoding(config: Config, work: Work, items: int) -> int:
    """FLOPs of the VAE for the whole of the data."""
    halves = 2 if config.data.form == "pairs" else 1
    return items * halves * (1 + config.data.flip) * work.encoding.flops // config.data.encode_batch_size


def _items(config: Config, request: PlanRequest) -> tuple[int | None, str, Manifest | None]:
    """How many winners there are, how that is known, and the cache where there is one."""
    if request.items is not None:
        return request.items, "--items", None
    cache = Path(config.data.cache)
    if (cache / "manifest.json").is_file():
        manifest = Manifest.read(cache)
        return manifest.items, f"the cache {cache}", manifest
    source = Path(config.data.source).expanduser()
    if source.exists() and config.data.format != "hub":
        records, _ = open_records(config.data, find_source(config.data.source, config.data.format))
        return len(records), f"the rows of {source}", None
    return None, "not known: give --items", None


def _disk(config: Config, work: Work, items: int | None, cached: Manifest | None) -> Disk:
    loop, trained = config.loop, work.weights.trained_bytes
    per_item = work.item_bytes + work.caption_bytes
    cache = None if items is None else items * per_item + work.caption_bytes
    if cached is not None:
        cache = sum(stored.bytes for stored in (*cached.shards, *cached.texts, *cached.tables))
    samples = _counts(config, work).generated_per_iteration * prod(work.latent_shape) * 4
    checkpoint = trained * (2 if config.optimizer.ema_decay is not None else 1) + moments(config, work)
    # the newest is written before the oldest goes
    return Disk(cache, per_item, samples, pool_entries(config) * trained, checkpoint * (loop.keep_checkpoints + 1))


def _refused(config: Config, request: PlanRequest) -> list[str]:
    """What `train` would say of so many GPUs before it begins."""
    loop, step = config.loop, request.gpus * config.loop.micro_batch_size
    notes = []
    if loop.batch_size % step:
        notes.append(
            f"train will refuse this: loop.batch_size={loop.batch_size} is no multiple of {request.gpus} GPUs x "
            f"loop.micro_batch_size={loop.micro_batch_size}; use e.g. {-(-loop.batch_size // step) * step}"
        )
    if loop.sharded and request.gpus == 1:
        notes.append("train will refuse this: loop.sharded=true shares one model between GPUs, and here is one")
    if loop.sharded and loop.mixed_precision == "fp16":
        notes.append("train will refuse this: loop.sharded=true does not go with loop.mixed_precision=fp16; use bf16")
    return notes


def _notes(config: Config, request: PlanRequest, plan: Plan, gpu: Gpu, work: Work) -> list[str]:
    notes = []
    if plan.encode_batch_size < config.data.encode_batch_size:
        notes.append(
            f"data.encode_batch_size={config.data.encode_batch_size} does not fit {gpu.title}; prepare goes down to "
            f"{plan.encode_batch_size} by itself, which its memory above is of"
        )
    if config.loop.offload_reference:
        notes.append(
            f"loop.offload_reference brings {work.weights.reference / GIB:.1f} GiB to the GPU for every micro-batch; "
            "no time is counted for it"
        )
    total = plan.hours.total
    if total > MONTH:
        wanted = -(-total * request.gpus // 168)
        notes.append(
            f"this run is unrealistic as it stands: {span(total)} on {request.gpus} x {gpu.title}; a week would take "
            f"{wanted:,.0f} of them. Fewer or smaller samples, steps of sampling, updates or a smaller batch help"
        )
    if not gpu.bfloat16 and (config.loop.mixed_precision == "bf16" or config.model.dtype == "bfloat16"):
        notes.append(f"{gpu.title} has no bfloat16; use float16 (loop.mixed_precision: fp16, model.dtype: float16)")
    if not _half(config):
        notes.append("float32 throughout; loop.mixed_precision: bf16 is several times as fast on this GPU")
    if plan.items is not None:
        uses = plan.counts.trained_samples / max(1, plan.items)
        notes.append(f"every winner is used {uses:,.1f} times" if uses >= 1 else f"{uses:.0%} of the winners are used")
    if config.model.lora is not None:
        notes.append(f"model.lora={config.model.lora} is not read; a LoRA has the size of tune.rank here")
    return notes


def _assumptions(config: Config, request: PlanRequest, gpu: Gpu) -> list[str]:
    rate, precision = (gpu.half, "half") if _half(config) else (gpu.single, "single")
    return [
        f"{request.utilisation:.0%} of the {rate:g} TFLOPS of {gpu.title} in {precision} precision (--utilisation); "
        "no time for reading data, exchange between GPUs and text encoding",
        "activations are those of fused attention (SDPA, xformers), counted op by op; 1 GiB for CUDA's context and "
        "workspaces; fragmentation, 5 to 10 % more, is not in it",
        "every item has a caption of its own in the cache",
    ]


def span(hours: float) -> str:
    """`hours` in the unit that people would use."""
    for limit, unit, size in [(1, "minutes", 1 / 60), (100, "hours", 1), (24 * 365, "days", 24)]:
        if hours < limit:
            return f"{hours / size:,.1f} {unit}"
    return f"{hours / 24 / 365:,.1f} years"
