"""Suggests settings with which a run fits a GPU that is too small for it."""

from collections.abc import Callable
from dataclasses import replace

from seppo_core.config.gpus import GIB, Gpu, holding
from seppo_core.config.schema import Config
from seppo_core.io.lazy import import_object
from seppo_core.plan.memory import Phases, memory, peak
from seppo_core.plan.step_costs import StepCosts

Change = Callable[[Config], Config]


def _set(section: str, **values) -> Change:
    return lambda config: replace(config, **{section: replace(vars(config)[section], **values)})


def _in_half_precision(gpu: Gpu) -> Change:
    def change(config: Config) -> Config:
        if config.loop.mixed_precision != "no":
            return config
        # a fused step does not wait for float16's scaling
        config = _set("optimizer", fused=config.optimizer.fused and gpu.bfloat16)(config)
        return _set("loop", mixed_precision=_half(gpu))(config)

    return change


def _in_shards(gpu: Gpu, gpus: int) -> Change:
    def change(config: Config) -> Config:
        half = config.loop.mixed_precision == "fp16"
        placed = config.loop.sharded or config.model.offload or config.model.quantize is not None
        if gpus == 1 or placed or (half and not gpu.bfloat16):
            return config
        # shards know neither float16's scaling nor 8-bit moments
        config = _set("optimizer", name="adamw")(config)
        if half and config.tune.mode == "lora":
            config = _set("model", dtype="bfloat16")(config)
        precision = "bf16" if half else config.loop.mixed_precision
        return _set("loop", sharded=True, offload_reference=False, mixed_precision=precision)(config)

    return change


def _with_reference_offloaded(config: Config) -> Config:
    if config.loop.sharded or config.tune.mode == "lora" or not config.holds_reference:
        return config
    return _set("loop", offload_reference=True)(config)


def _with_8_bits(config: Config) -> Config:
    return config if config.loop.sharded else _set("optimizer", name="adamw8bit", fused=False)(config)


def _as_lora(gpu: Gpu) -> Change:
    def change(config: Config) -> Config:
        if config.tune.mode == "lora" and config.model.dtype != "float32":
            return config
        # there is nothing to offload then
        config = _set("loop", offload_reference=False)(config)
        dtype = "bfloat16" if _half(gpu) == "bf16" else "float16"
        return _set("tune", mode="lora")(_set("model", dtype=dtype)(config))

    return change


def _half(gpu: Gpu) -> str:
    return "bf16" if gpu.bfloat16 else "fp16"


def changes(gpu: Gpu, gpus: int) -> list[Change]:
    """Changes in the order in which they are tried, each on top of those before; the least harmful comes first."""
    return [
        _set("loop", gradient_checkpointing=True, checkpointing_share=1.0),
        _set("loop", micro_batch_size=1),
        _set("reference_samples", batch_size=1),
        _set("preview", batch_size=1),
        _in_half_precision(gpu),
        _in_shards(gpu, gpus),
        _with_reference_offloaded,
        _with_8_bits,
        _as_lora(gpu),
    ]


def cures(config: Config, costs: StepCosts, gpu: Gpu, gpus: int, fitted: bool = False) -> list[str]:
    """One line with the settings that help, or that none does, and one with the GPUs that hold the run unchanged.

    Unless it was `fitted` in vain, a LoRA is sent to `plan --fit`, which tries other places and forms of its base.
    """
    phases = memory(config, costs, gpus, gpu.memory)
    as_it_is = least = peak(phases)
    excess = _excess(phases, gpu)
    words: list[str] = []
    lines = []
    for change in changes(gpu, gpus):
        try:
            changed = change(config)
        except ValueError:
            # what cannot work is refused by the schema
            continue
        if changed == config:
            continue
        after = counted_again(changed, config, costs)
        phases = memory(changed, after, gpus, gpu.memory)
        # skip changes that shrink no phase that exceeds the GPU's memory
        if peak(phases) >= least and _excess(phases, gpu) >= excess:
            continue
        words += _said(config, changed)
        config, costs, least, excess = changed, after, peak(phases), _excess(phases, gpu)
        if least <= gpu.memory:
            break
    if least <= gpu.memory:
        lines.append(f"it fits {gpu.title}, with {least / GIB:.1f} GiB, after {'; '.join(words)}")
    else:
        after = f" after {'; '.join(words)}" if words else ""
        alone = "" if gpus > 1 else "more GPUs, which can share one model (loop.sharded), "
        take = "Take"
        if config.tune.mode == "lora" and not fitted:
            take = "`plan --fit` tries a base on the CPU or in fewer bits (model.offload, model.quantize). Else take"
        lines.append(
            f"no setting that was tried makes it fit {gpu.title}: it needs {least / GIB:.1f} GiB{after}. "
            f"{take} {alone}a smaller base, a smaller size, or fewer frames"
        )
    found = holding(as_it_is)
    larger = " and larger" if len(found) > 2 else ""
    names = f"{', '.join(found[:2])}{larger} would hold" if found else "no GPU known here holds"
    lines.append(f"as it is it needs {as_it_is / GIB:.1f} GiB, which {names}")
    return lines


def _excess(phases: Phases, gpu: Gpu) -> int:
    """Bytes that do not fit, over all phases."""
    return sum(max(0, sum(parts.values()) - gpu.memory) for parts in phases.values())


def _said(before: Config, after: Config) -> list[str]:
    """The keys that differ, with their new values, as a config file has them."""
    words = []
    for section in ("loop", "reference_samples", "preview", "optimizer", "tune", "model"):
        old, new = vars(vars(before)[section]), vars(vars(after)[section])
        words += [
            f"{section}.{key}: {str(value).lower() if isinstance(value, bool) else value}"
            for key, value in new.items()
            if value != old[key]
        ]
    return words


def _counted(config: Config) -> tuple:
    """The settings that decide a training step's bytes; both half precisions take the same."""
    model = vars(config.model) | {"dtype": config.model.dtype == "float32"}
    loop = config.loop
    return loop.micro_batch_size, config.tune, model, loop.mixed_precision == "no", loop.checkpointing_share


def counted_again(config: Config, before: Config, costs: StepCosts) -> StepCosts:
    """The costs of `config`: counted anew if the training step changed, scaled if only a batch size did."""
    if _counted(config) != _counted(before):
        # torch is needed only for what was not counted before
        anew = import_object("seppo_core.plan.measure:measure")(config, only_step=True)
        costs = replace(costs, weights=anew.weights, steps=costs.steps | anew.steps, reference_peak=anew.reference_peak)
    shares = [
        ("denoising", config.reference_samples.batch_size / before.reference_samples.batch_size),
        ("decoding", config.preview.at_once / before.preview.at_once),
        ("previewing", config.preview.at_once / before.preview.at_once),
    ]
    for name, share in shares:
        cost = vars(costs)[name]
        if cost is not None and share != 1:
            costs = replace(costs, **{name: cost.times(share)})
    return costs
