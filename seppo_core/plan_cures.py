"""What would make a run fit a GPU that it does not fit."""

from collections.abc import Callable
from dataclasses import replace

from seppo_core.config import Config
from seppo_core.plan_count import Cost
from seppo_core.plan_gpus import GIB, Gpu, holding
from seppo_core.plan_memory import memory, peak
from seppo_core.plan_work import Build, Conditions, Work, measure


def _set(section: str, **values) -> Callable[[Config], Config]:
    return lambda config: replace(config, **{section: replace(vars(config)[section], **values)})


def _in_half_precision(config: Config) -> Config:
    return _set("loop", mixed_precision="bf16")(config) if config.loop.mixed_precision == "no" else config


def _as_lora(config: Config) -> Config:
    if config.tune.mode == "lora" and config.model.dtype != "float32":
        return config
    return _set("tune", mode="lora")(_set("model", dtype="bfloat16")(config))


CHANGES: list[tuple[str, Callable[[Config], Config]]] = [
    ("loop.gradient_checkpointing: true", _set("loop", gradient_checkpointing=True)),
    ("loop.micro_batch_size: 1", _set("loop", micro_batch_size=1)),
    ("reference_samples.batch_size: 1", _set("reference_samples", batch_size=1)),
    ("preview.per_prompt: 1", _set("preview", per_prompt=1)),
    ("data.encode_batch_size: 1", _set("data", encode_batch_size=1)),
    ("loop.mixed_precision: bf16", _in_half_precision),
    ("optimizer.name: adamw8bit", _set("optimizer", name="adamw8bit")),
    ("tune.mode: lora with model.dtype: bfloat16", _as_lora),
]
"""Tried one after the other, each on top of those before; cheapest for the result first."""


def cures(config: Config, work: Work, build: Build, conditions: Conditions, gpu: Gpu, gpus: int) -> list[str]:
    """One line that says what to set, or that nothing here helps, and one with the GPUs that would hold it as it is."""
    as_it_is = peak(memory(config, work, gpus))
    words: list[str] = []
    lines = []
    least = as_it_is
    for word, change in CHANGES:
        changed = change(config)
        if changed == config:
            continue
        after = _again(changed, config, work, build, conditions)
        needed = peak(memory(changed, after, gpus))
        # a change that the largest phase does not feel is left out
        if needed >= least and word != CHANGES[-1][0]:
            continue
        config, work, least = changed, after, needed
        words.append(word)
        if needed <= gpu.memory:
            break
    if least <= gpu.memory:
        lines.append(f"it fits {gpu.title}, with {least / GIB:.1f} GiB, after {'; '.join(words)}")
    else:
        tried = f" ({'; '.join(words)})" if words else ""
        lines.append(
            f"nothing that can be set here makes it fit {gpu.title}: {least / GIB:.1f} GiB are left of it{tried}. "
            "Weights are not spread over GPUs; take a smaller base, a smaller size, or fewer frames"
        )
    found = holding(as_it_is)
    larger = " and larger" if len(found) > 2 else ""
    names = f"{', '.join(found[:2])}{larger} would hold" if found else "no GPU known here holds"
    lines.append(f"as it is it needs {as_it_is / GIB:.1f} GiB, which {names}")
    return lines


def _again(config: Config, before: Config, work: Work, build: Build, conditions: Conditions) -> Work:
    """The work of `config`, counted anew where training changes, in proportion where only a batch does."""
    steps_change = config.loop.micro_batch_size != before.loop.micro_batch_size
    if steps_change or (config.tune, config.model, config.loop.mixed_precision) != (
        before.tune, before.model, before.loop.mixed_precision,
    ):  # fmt: skip
        anew = measure(config, build, conditions, only_step=True)
        work = replace(work, weights=anew.weights, steps=work.steps | anew.steps)
    shares = [
        ("denoising", config.reference_samples.batch_size / before.reference_samples.batch_size),
        ("decoding", config.preview.per_prompt / before.preview.per_prompt),
        ("encoding", config.data.encode_batch_size / before.data.encode_batch_size),
    ]
    for name, share in shares:
        cost = vars(work)[name]
        if cost is not None and share != 1:
            work = replace(work, **{name: Cost(cost.flops, round(cost.peak * share), cost.kept)})
    return work
