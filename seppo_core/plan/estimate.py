"""Computes a plan from a configuration alone: parameters, memory, FLOPs, disk and hours."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NamedTuple

from seppo_core.cache.manifest import Manifest
from seppo_core.config.gpus import GPUS, Gpu
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import Config
from seppo_core.data.discover import find_source
from seppo_core.data.open import open_records
from seppo_core.plan.build import base_architecture
from seppo_core.plan.memory import encode_batch, memory, moments, peak
from seppo_core.plan.notes import assumptions, expected_refusals, remarks, uses_half_precision
from seppo_core.plan.result import Counts, Disk, Flops, Hours, Parameters, Plan
from seppo_core.plan.suggestions import cures
from seppo_core.plan.work import Work, measure
from seppo_core.run.disk_budget import pool_entries


def make_plan(config: Config, request: PlanRequest) -> Plan:
    """Counts the work of `config` on a model without memory; converts it to memory and hours on the requested GPUs."""
    numbers = base_architecture(config)
    work = measure(config)
    gpu = GPUS[request.gpu]
    phases = memory(config, work, request.gpus, gpu.memory)
    flops, counts = _flops(config, work), _counts(config, work)
    items = _items(config, request)
    per_hour = 3600e12 * request.utilisation
    speed = per_hour * (gpu.half if uses_half_precision(config) else gpu.single)
    hours = Hours(
        training=flops.training / speed / request.gpus,
        generation=flops.generation / speed / request.gpus,
        # the main process renders previews while the other processes wait
        previews=flops.previews / speed,
        prepare=None
        if items.count is None
        else _encoding(config, work, items.count) / (per_hour * _vae_rate(work, gpu)),
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
        parameters=Parameters(work.weights.parameters, work.weights.trained, _trained_weights(config, work)),
        phases=phases,
        activations={"without checkpointing": work.steps[False].peak, "with checkpointing": work.steps[True].peak},
        host=_host(config, work),
        host_at_start=_host(config, work) + sum(work.weights.texts.values()),
        counts=counts,
        flops=flops,
        hours=hours,
        disk=_disk(config, work, items),
        items=items.count,
        items_from=items.origin,
        encode_batch_size=encode_batch(config, work, gpu.memory),
        fits=held <= gpu.memory,
        assumptions=assumptions(config, request, gpu),
    )
    notes = remarks(config, request, plan, gpu, work)
    if not plan.fits:
        notes = [*cures(config, work, gpu, request.gpus), *notes]
    return replace(plan, notes=[*notes, *expected_refusals(config, request)])


def _vae_rate(work: Work, gpu: Gpu) -> float:
    """TFLOPS at which the GPU computes the VAE's convolutions."""
    return gpu.convolutions if work.weights.dtypes["vae"] == "float32" else gpu.half


def _trained_weights(config: Config, work: Work) -> str:
    t = config.tune
    if t.mode == "full":
        return "all weights" if t.scope == "all" else f"the weights of scope {t.scope}"
    where = "attention projections" if t.scope == "all" else f"attention projections of scope {t.scope}"
    return f"a LoRA of rank {t.rank} on the {where}"


def _host(config: Config, work: Work) -> int:
    """Bytes that each process keeps in host memory."""
    vae = 0 if work.decoding is not None else work.weights.vae
    return vae + config.loop.offload_reference * work.weights.reference


def _counts(config: Config, work: Work) -> Counts:
    loop = config.loop
    updates = loop.iterations * loop.updates_per_iteration
    generated = loop.updates_per_iteration * loop.batch_size if config.method.spec.counterpart == "generated" else 0
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
    """FLOPs that the VAE spends on encoding the whole data set."""
    halves = 2 if config.data.supervision == "pairs" else 1
    return items * halves * (1 + config.data.flip) * work.encoding.flops // config.data.encode_batch_size


class _Items(NamedTuple):
    count: int | None
    origin: str
    """Where the count comes from, as text for the report."""
    cache: Manifest | None = None


def _items(config: Config, request: PlanRequest) -> _Items:
    """The number of winners: from the request, a prepared cache or the rows of the source, in this order."""
    if request.items is not None:
        return _Items(request.items, "--items")
    cache = Path(config.data.cache)
    if (cache / "manifest.json").is_file():
        manifest = Manifest.read(cache)
        return _Items(manifest.items, f"the cache {cache}", manifest)
    source = Path(config.data.source).expanduser()
    if source.exists() and config.data.format != "hub":
        records = open_records(config.data, find_source(config.data.source, config.data.format))
        return _Items(len(records), f"the rows of {source}")
    return _Items(None, "unknown; give --items")


def _disk(config: Config, work: Work, items: _Items) -> Disk:
    loop, trained = config.loop, work.weights.trained_bytes
    per_item = work.item_bytes + work.caption_bytes
    cache = None if items.count is None else items.count * per_item + work.caption_bytes
    if items.cache is not None:
        cache = sum(stored.bytes for stored in (*items.cache.shards, *items.cache.texts, *items.cache.tables))
    samples = _counts(config, work).generated_per_iteration * prod(work.latent_shape) * 4
    checkpoint = trained * (2 if config.optimizer.ema_decay is not None else 1) + moments(config, work)
    # the newest checkpoint is written before the oldest is deleted
    return Disk(cache, per_item, samples, pool_entries(config) * trained, checkpoint * (loop.keep_checkpoints + 1))
