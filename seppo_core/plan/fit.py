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
SHARES = (0.25, 0.5, 0.75)
"""Values of loop.checkpointing_share that are tried where all parts are recomputed."""
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
    one that rounds least and changes least. Without one that fits, the plan of the config as it is."""
    costs = costs_of(config)
    before = plan_of(config, request, costs)
    if before.fits:
        return Proposal({}, before, before)
    room = GPUS[request.gpu].memory
    fitting = [
        (changes, plan_of(changed, request, costs))
        for changes, changed in candidates(config, costs, request.gpus)
        if peak(memory(changed, costs, request.gpus, room)) <= room
    ]
    # the machine's own memory too
    fitting = [one for one in fitting if one[1].fits]
    if not fitting:
        return Proposal({}, before, before)
    least = min(plan.hours.total for _, plan in fitting)
    quick = [one for one in fitting if one[1].hours.total <= SAME * least]
    changes, plan = min(quick, key=lambda one: (_rounding(one[0]), len(one[0]), one[1].hours.total))
    return Proposal(*_recomputing_less(config, changes, plan, request, costs), before)


def _recomputing_less(
    config: Config, changes: dict[str, object], plan: Plan, request: PlanRequest, costs: StepCosts
) -> tuple[dict[str, object], Plan]:
    """`changes` with the smallest share of recomputed parts that fits as well, and its plan; both as they are if none
    does, or if not all parts are recomputed. Where there may be room the step is counted anew, which takes torch."""
    whole, room = _with(config, changes), GPUS[request.gpu].memory
    if not whole.loop.gradient_checkpointing or whole.loop.checkpointing_share != 1:
        return changes, plan
    most, least = costs.steps[False].peak, costs.steps[True]
    for share in SHARES:
        fewer = changes | {"loop.checkpointing_share": share}
        try:
            changed = _with(config, fewer)
        except ValueError:
            # blocks or their inputs wait on the CPU
            return changes, plan
        # parts differ in what they keep: what has no room for half of a mean part is not counted
        about = replace(least, peak=least.peak + round((1 - share) / 2 * (most - least.peak)))
        if peak(memory(changed, replace(costs, steps=costs.steps | {True: about}), request.gpus, room)) > room:
            continue
        counted = counted_again(changed, whole, costs)
        # the plan of what does not fit would count cures
        if peak(memory(changed, counted, request.gpus, room)) <= room:
            found = plan_of(changed, request, counted)
            if found.fits:
                return fewer, found
    return changes, plan


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


def _with(config: Config, changes: dict[str, object]) -> Config:
    sections: dict[str, dict[str, object]] = {}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    return replace(config, **{name: replace(vars(config)[name], **values) for name, values in sections.items()})
