"""Computes a plan from a configuration alone: parameters, memory, FLOPs, disk and hours."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NamedTuple

from seppo_core.cache.manifest import Manifest
from seppo_core.config.gpus import GPUS, Gpu
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import Config
from seppo_core.data.discover import find_source
from seppo_core.data.open_records import open_records
from seppo_core.data.sizes import picture_sizes
from seppo_core.plan.architecture import base_architecture
from seppo_core.plan.counts import costs_of
from seppo_core.plan.host import host_memory, processes
from seppo_core.plan.memory import encode_batch, held_blocks, memory, moments, part, peak
from seppo_core.plan.moving import moving
from seppo_core.plan.notes import assumptions, expected_refusals, remarks
from seppo_core.plan.result import Counts, Disk, Flops, Hours, Parameters, Plan
from seppo_core.plan.step_costs import StepCosts
from seppo_core.plan.suggestions import cures
from seppo_core.run.disk_budget import checkpoints_held, errors_held, pool_entries, samples_held


def make_plan(config: Config, request: PlanRequest) -> Plan:
    """Counts the costs of `config` on a model without memory; converts it to memory and hours on the requested GPUs."""
    return plan_of(config, request, costs_of(config))


def plan_of(config: Config, request: PlanRequest, costs: StepCosts) -> Plan:
    """The plan of `config` by costs that were counted."""
    gpu = GPUS[request.gpu]
    phases = memory(config, costs, request.gpus, gpu.memory)
    items = _items(config, request)
    trained_on = None if items.count is None else items.count - round(config.data.validation * items.count)
    flops, counts = _flops(config, costs, trained_on), _counts(config, costs, trained_on)
    per_hour = 3600e12 * request.utilisation
    speed = per_hour * (gpu.half if config.in_half_precision else gpu.single)
    hours = Hours(
        training=flops.training / speed / request.gpus,
        generation=flops.generation / speed / request.gpus,
        # the main process, with its group, renders previews while the other processes wait
        previews=flops.previews / speed / config.loop.context_parallel,
        prepare=None
        if items.count is None
        else _encoding(config, costs, items.count) / (per_hour * _vae_rate(costs, gpu)),
        moving=moving(config, costs, gpu, counts, request) / 3600 / request.gpus,
    )
    if config.sample_epochs is not None and trained_on is not None:
        item = flops.update / counts.batch_size
        sample = flops.generated_sample if counts.generated else 0
        kept = flops.update_reference if config.loop.reference_draws is not None else 0
        later = item - kept / counts.batch_size
        hours = replace(
            hours,
            first_epoch=trained_on * (item + sample) / speed / request.gpus,
            later_epoch=trained_on * later / speed / request.gpus,
        )
    on_host, of_host = _host(config, costs), host_memory(request)
    fits = peak(phases) <= gpu.memory
    plan = Plan(
        run=config.run,
        base=config.model.base,
        numbers=base_architecture(config).origin,
        method=config.method.name,
        gpu=gpu.title,
        gpus=request.gpus,
        memory_of_gpu=gpu.memory,
        parameters=Parameters(costs.weights.parameters, costs.weights.trained, _trained_weights(config)),
        phases=phases,
        activations={"without checkpointing": costs.steps[False].peak, "with checkpointing": costs.steps[True].peak},
        host=on_host,
        host_at_start=on_host + sum(costs.weights.texts.values()),
        of_host=of_host,
        on_one_host=processes(request),
        counts=counts,
        flops=flops,
        hours=hours,
        disk=_disk(config, costs, items, trained_on),
        items=items.count,
        items_from=items.origin,
        encode_batch_size=encode_batch(config, costs, gpu.memory),
        fits=fits,
        assumptions=assumptions(config, request, gpu, costs),
    )
    plan = replace(plan, fits=fits and plan.fits_host)
    notes = remarks(config, request, plan, gpu, costs, items.sizes)
    if not fits:
        notes = [*cures(config, costs, gpu, request.gpus, request.fit), *notes]
    return replace(plan, notes=[*notes, *expected_refusals(config, request, costs)])


def _vae_rate(costs: StepCosts, gpu: Gpu) -> float:
    """TFLOPS at which the GPU computes the VAE's convolutions."""
    return gpu.convolutions if costs.weights.dtypes["vae"] == "float32" else gpu.half


def _trained_weights(config: Config) -> str:
    t = config.tune
    if t.mode == "full":
        return "all weights" if t.scope == "all" else f"the weights of scope {t.scope}"
    where = "attention projections" if t.scope == "all" else f"attention projections of scope {t.scope}"
    return f"a LoRA of rank {t.rank} on the {where}"


def _host(config: Config, costs: StepCosts) -> int:
    """Bytes that each process keeps in host memory."""
    vae = 0 if costs.decoding is not None else costs.weights.vae
    base = held_blocks(config, costs) if config.model.offload else 0
    inputs = part(config, costs.block_inputs) if config.loop.offload_activations else 0
    return vae + base + inputs + config.loop.offload_reference * costs.weights.reference


def _counts(config: Config, costs: StepCosts, items: int | None) -> Counts:
    loop, spec = config.loop, config.method.spec
    updates = loop.iterations * loop.updates_per_iteration
    generated, drawn = config.generated, loop.drawn(items, loop.reference_draws)
    # samples that a judge scores are never kept
    steps = costs.calls // (1 + costs.guided)
    calls = steps + round(steps * config.reference_samples.guided_share(steps)) if costs.guided and steps else steps
    in_all = generated * loop.iterations if config.sample_epochs is None else samples_held(config, items)
    return Counts(
        updates, loop.iterations, loop.batch_size, updates * loop.batch_size, generated, in_all,
        calls, loop.candidates(spec), drawn, config.reference_samples.uses,
    )  # fmt: skip


def _flops(config: Config, costs: StepCosts, items: int | None) -> Flops:
    loop, counts = config.loop, _counts(config, costs, items)
    micro_batches = loop.batch_size // loop.micro_batch_size
    update = micro_batches * (costs.steps[loop.gradient_checkpointing].flops + costs.observe)
    reference = micro_batches * costs.step_reference
    training = update * counts.updates
    if loop.reference_draws is not None:
        # what is measured once serves the observation too, half of whose passes are the reference's
        update -= micro_batches * _observed_reference(config, costs)
        training = update * counts.updates - reference * (counts.trained_samples - counts.drawn) // loop.batch_size
    sample = 0
    if costs.denoising is not None:
        # a solver step costs as many passes as its guidance takes
        per_step = 2 if costs.guided else 1
        sample = counts.calls * costs.denoising.flops // per_step // config.reference_samples.batch_size
        if config.reference_samples.reencode and costs.decoding is not None:
            again = costs.decoding.flops // costs.decoded + costs.encoding.flops // config.data.encode_batch_size
            sample += again
    # a judge sees pixels
    judged = (
        0
        if not counts.judged_per_iteration or costs.decoding is None
        else (counts.iterations * counts.judged_per_iteration * costs.decoding.flops // costs.decoded)
    )
    p = config.preview
    drawings = 2 + ((counts.updates - 1) // p.every if p.every else 0) if p.prompts else 0
    samples = max(p.per_prompt, p.judged_per_prompt or 0)
    row = samples * p.steps * costs.forward * (1 + costs.previews_guided)
    decoded = 0 if costs.decoding is None else costs.decoding.flops * samples // costs.decoded
    return Flops(
        forward=costs.forward,
        update=update,
        update_reference=reference,
        generated_sample=sample,
        training=training,
        generation=sample * counts.generated + judged,
        previews=drawings * len(p.prompts) * (row + decoded),
    )


def _observed_reference(config: Config, costs: StepCosts) -> int:
    """FLOPs of the reference's passes in the observation of one micro-batch: half of it, unless it is the guard's."""
    guards = vars(config.method).get("guard") is not None and config.method.guards_batch
    return 0 if guards else costs.observe // 2


def _encoding(config: Config, costs: StepCosts, items: int) -> int:
    """FLOPs that the VAE spends on encoding the whole data set."""
    halves = {"pairs": 2, "prompts": 0}.get(config.data.supervision, 1)
    return items * halves * (1 + config.data.flip) * costs.encoding.flops // config.data.encode_batch_size


class _Items(NamedTuple):
    count: int | None
    origin: str
    """Where the count comes from, as text for the report."""
    cache: "Manifest | None" = None
    sizes: Sequence[tuple[int, int]] = ()
    """Height and width of some of them, where that is known."""


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
        alone = config.data.supervision == "prompts"
        found = find_source(config.data.source, config.data.format, alone)
        records = open_records(config.data, found)
        sizes = () if alone else picture_sizes(records)
        return _Items(len(records), f"the rows of {source}", sizes=sizes)
    return _Items(None, "unknown; give --items")


def _disk(config: Config, costs: StepCosts, items: _Items, trained_on: int | None) -> Disk:
    trained = costs.weights.trained_bytes
    per_item = costs.item_bytes + costs.caption_bytes
    cache = None if items.count is None else items.count * per_item + costs.caption_bytes
    if items.cache is not None:
        cache = sum(stored.bytes for stored in (*items.cache.shards, *items.cache.texts, *items.cache.tables))
    samples = samples_held(config, trained_on) + config.loop.candidates(config.method.spec)
    samples *= prod(costs.latent_shape) * 4
    checkpoint = trained * (2 if config.optimizer.ema_decay is not None else 1) + moments(config, costs)
    return Disk(
        cache, per_item, samples, pool_entries(config) * trained, checkpoint * checkpoints_held(config),
        4 * errors_held(config, trained_on),
    )  # fmt: skip
