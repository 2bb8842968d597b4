"""Proposes the cheapest settings with which a run fits a GPU, without a change of what is trained."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from seppo_core.config.gpus import GIB, GPUS
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import Config
from seppo_core.plan.counts import costs_of
from seppo_core.plan.estimate import plan_of
from seppo_core.plan.memory import memory, peak
from seppo_core.plan.notes import uneven
from seppo_core.plan.result import Plan, host_words, span
from seppo_core.plan.step_costs import StepCosts
from seppo_core.plan.suggestions import counted_again

SAME = 1.05
"""Sets whose hours differ by less than this factor are told apart by what they round."""
KEYS: dict[str, tuple] = {
    "loop.gradient_checkpointing": (True,),
    "loop.offload_reference": (True,),
    "loop.offload_activations": (True,),
    "model.offload": (True,),
    "optimizer.name": ("adamw8bit", "adafactor"),
    "model.quantize": ("int8wo", "nf4"),
    "model.quantize_text": ("int8wo", "nf4"),
}
"""Values that are tried beside a key's own."""
BATCHES = {
    "loop.micro_batch_size": {"training", "optimizer step", "reference's errors"},
    "reference_samples.batch_size": {"generation"},
    "preview.batch_size": {"previews", "decoding"},
}
"""Batches that are computed at once, which decide nothing but memory and time, and the phases that hold them."""
SHARE = "loop.checkpointing_share"
SHARES = (0.25, 0.5, 0.75)
"""Values of it that are tried where all parts are recomputed."""
KEPT = 0.75
"""Parts differ in what they keep: a share is counted where there is room for this much of what mean parts would keep.
Those of Stable Diffusion 1.5 keep 0.93, 0.89 and 0.77 of it."""
ROUNDING = {"adamw8bit": 1, "adafactor": 2, "int8wo": 3, "nf4": 4}
"""How much a value changes what is computed; those that are not named change nothing but time."""


@dataclass(frozen=True)
class Proposal:
    """What a run becomes to fit."""

    changes: dict[str, object]
    """New values by key; empty if it fits as it is, or if nothing was found."""
    plan: Plan
    """With the changes."""
    before: Plan
    """Of the config as it is."""


def propose(config: Config, request: PlanRequest) -> Proposal:
    """The set of changes with which `config` fits the requested GPU in the fewest hours; of sets that take as long, the
    one that rounds least and changes least. Without one that fits, the plan of the config as it is.

    Batches stay as they are if that will do, unless training fits already and smaller ones are all that is needed.
    """
    costs = costs_of(config)
    before = plan_of(config, request, costs)
    if before.fits:
        return Proposal({}, before, before)
    room = GPUS[request.gpu].memory
    phases = memory(config, costs, request.gpus, room)
    large = {name for name, parts in phases.items() if sum(parts.values()) > room}
    batches = {key: 1 for key, of in BATCHES.items() if large & of and _at_once(config, key) > 1}
    first, second = ({}, batches) if large & BATCHES["loop.micro_batch_size"] else (batches, {})
    for smaller in (first, second) if batches else ({},):
        changed = _with(config, smaller)
        found = _proposed(changed, request, counted_again(changed, config, costs))
        if found is not None:
            changes, plan = found
            return Proposal(smaller | changes, plan, before)
    return Proposal({}, before, before)


def _proposed(config: Config, request: PlanRequest, costs: StepCosts) -> tuple[dict[str, object], Plan] | None:
    """The changes beside those of batches, and the plan with them; None if nothing fits."""
    room = GPUS[request.gpu].memory
    as_it_is = plan_of(config, request, costs)
    if as_it_is.fits:
        return {}, as_it_is
    fitting = [
        (changes, plan_of(changed, request, costs))
        for changes, changed in candidates(config, costs, request.gpus)
        if peak(memory(changed, costs, request.gpus, room)) <= room
    ]
    # the machine's own memory too
    fitting = [one for one in fitting if one[1].fits]
    if not fitting:
        return None
    counted: dict[float, StepCosts] = {}
    weighed = [_recomputing_less(config, *one, request, costs, counted) for one in fitting]
    while True:
        changes, plan = _cheapest(weighed)
        share = changes.get(SHARE)
        if share is None or share in counted:
            return changes, plan
        # which takes torch; the step is the same whatever else a set changes
        whole = {key: value for key, value in changes.items() if key != SHARE}
        counted[share] = counted_again(_with(config, changes), _with(config, whole), costs)
        weighed = [
            _recomputing_less(config, *one, request, costs, counted) if found[0].get(SHARE) == share else found
            for one, found in zip(fitting, weighed, strict=True)
        ]


def _cheapest(found: list[tuple[dict[str, object], Plan]]) -> tuple[dict[str, object], Plan]:
    """Of the sets that take the fewest hours, or as long, the one that rounds least and changes least."""
    least = min(plan.hours.total for _, plan in found)
    quick = [one for one in found if one[1].hours.total <= SAME * least]
    return min(quick, key=lambda one: (_rounding(one[0]), len(one[0].keys() - {SHARE}), one[1].hours.total))


def _recomputing_less(
    config: Config,
    changes: dict[str, object],
    plan: Plan,
    request: PlanRequest,
    costs: StepCosts,
    counted: dict[float, StepCosts],
) -> tuple[dict[str, object], Plan]:
    """`changes` with the smallest share of recomputed parts that fits as well, and its plan; both as they are if none
    does, or if not all parts are recomputed. The costs of shares that were not `counted` yet are estimated."""
    whole, room = _with(config, changes), GPUS[request.gpu].memory
    if not whole.loop.gradient_checkpointing or whole.loop.checkpointing_share != 1:
        return changes, plan
    for share in SHARES:
        fewer = changes | {SHARE: share}
        try:
            changed = _with(config, fewer)
        except ValueError:
            # blocks or their inputs wait on the CPU
            return changes, plan
        known = counted.get(share) or _estimated(costs, share)
        # the plan of what does not fit would count cures
        if peak(memory(changed, known, request.gpus, room)) <= room:
            found = plan_of(changed, request, known)
            if found.fits:
                return fewer, found
    return changes, plan


def _estimated(costs: StepCosts, share: float) -> StepCosts:
    """`costs` with a `share` of the parts recomputed, as if these were alike, but for KEPT of their memory."""
    none, whole = costs.steps[False], costs.steps[True]
    flops = none.flops + round(share * (whole.flops - none.flops))
    held = whole.peak + round(KEPT * (1 - share) * (none.peak - whole.peak))
    return replace(costs, steps=costs.steps | {True: replace(whole, flops=flops, peak=held)})


def candidates(config: Config, costs: StepCosts, gpus: int = 1) -> Iterator[tuple[dict[str, object], Config]]:
    """Every set of changes that the schema allows, with the config that it makes; on several GPUs items may be split
    over all of them."""
    tried = {key: (None, *values) for key, values in KEYS.items() if _applies(key, costs)}
    if gpus > 1 and config.model.spec.context is not None and uneven(config, costs, gpus) is None:
        tried["loop.context_parallel"] = (None, gpus)
    for values in product(*tried.values()):
        changes = {
            key: value
            for key, value in zip(tried, values, strict=True)
            if value is not None and _get(config, key) != value
        }
        if "optimizer.name" in changes and config.optimizer.fused:
            changes["optimizer.fused"] = False
        try:
            yield changes, _with(config, changes)
        except ValueError:
            # what cannot work is refused by the schema
            continue


def told(found: Proposal) -> list[str]:
    """The proposal in words."""
    plan, before = found.plan, found.before
    if not found.changes:
        why = "it fits as it is" if plan.fits else "no set of these settings makes it fit; see the notes below"
        return [f"proposal: {why}"]
    more = plan.hours.total / before.hours.total - 1
    held = max(sum(parts.values()) for parts in plan.phases.values())
    return [
        "proposal, the cheapest settings that fit without a change of what is trained:",
        *(
            f"  {key}: {str(value).lower() if isinstance(value, bool) else value}"
            for key, value in found.changes.items()
        ),
        f"  {held / GIB:.1f} GiB instead of {max(sum(p.values()) for p in before.phases.values()) / GIB:.1f}, "
        f"{span(plan.hours.total)} instead of {span(before.hours.total)} ({more:+.0%})",
        f"  {host_words(plan)}",
    ]


def _applies(key: str, costs: StepCosts) -> bool:
    matrices = costs.weights.matrices
    if key == "model.quantize_text":
        return any(name != costs.component for name in matrices)
    if key == "loop.offload_activations":
        return costs.block_inputs > 0
    return key != "model.quantize" or costs.component in matrices


def _rounding(changes: dict[str, object]) -> int:
    return sum(ROUNDING.get(value, 0) for value in changes.values() if isinstance(value, str))


def _get(config: Config, key: str) -> object:
    section, _, name = key.partition(".")
    return vars(vars(config)[section])[name]


def _at_once(config: Config, key: str) -> int:
    """How many samples a batch of BATCHES has at most."""
    return config.preview.at_once if key == "preview.batch_size" else _get(config, key)


def _with(config: Config, changes: dict[str, object]) -> Config:
    sections: dict[str, dict[str, object]] = {}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    return replace(config, **{name: replace(vars(config)[name], **values) for name, values in sections.items()})
