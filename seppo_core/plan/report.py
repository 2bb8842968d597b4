"""Prints a plan as text or as JSON."""

import json
from dataclasses import asdict

from seppo_core.config.gpus import GIB
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import Config
from seppo_core.plan.estimate import make_plan
from seppo_core.plan.fit import Proposal, propose, told
from seppo_core.plan.result import Plan, span

UNITS = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]


def print_plan(config: Config, request: PlanRequest) -> Plan:
    """Computes and prints the plan of `config`, or of what it becomes to fit."""
    found = propose(config, request) if request.fit else None
    plan = make_plan(config, request) if found is None else found.plan
    if request.json:
        print(as_json(plan, found))
    else:
        print(as_text(plan) if found is None else "\n".join([*told(found), "", as_text(plan)]))
    return plan


def as_json(plan: Plan, found: Proposal | None = None) -> str:
    """Every number of the plan in bytes, FLOPs and hours."""
    more = {} if found is None else {"fit": found.changes, "hours_as_it_is": found.before.hours.total}
    return json.dumps(asdict(plan) | {"hours_in_all": plan.hours.total} | more, indent=2)


def as_text(plan: Plan) -> str:
    """The plan as text; lines have at most 120 characters except long notes."""
    sections = [
        [
            _answer(plan),
            f"plan of {plan.run}: {plan.method} on {plan.base}",
            f"  from {plan.numbers}; no weights were loaded",
        ],
        _parameters(plan),
        _memory(plan),
        _work(plan),
        _disk(plan),
        _hours(plan),
        ["notes", *(f"  - {note}" for note in plan.notes)] if plan.notes else [],
        ["assumed", *(f"  - {assumption}" for assumption in plan.assumptions)],
    ]
    return "\n\n".join("\n".join(line for line in lines if line) for lines in sections if lines)


def _answer(plan: Plan) -> str:
    """What most readers look for, before all that it follows from."""
    held = max(sum(parts.values()) for parts in plan.phases.values())
    size = f"{held / GIB:,.1f} of {plan.memory_of_gpu / GIB:,.1f} GiB on {plan.gpus} x {plan.gpu}"
    return f"{'fits' if plan.fits else 'does not fit'}: {size}, {span(plan.hours.total)} of training"


def _parameters(plan: Plan) -> list[str]:
    p = plan.parameters
    share = p.trained / p.denoiser
    return [
        "parameters",
        _row("denoiser", f"{p.denoiser / 1e6:,.1f} M"),
        _row("trained", f"{p.trained / 1e6:,.1f} M", f"{share:.1%}: {p.what}"),
    ]


def _memory(plan: Plan) -> list[str]:
    lines = [f"memory on each of {plan.gpus} x {plan.gpu}, which has {gib(plan.memory_of_gpu)}"]
    for phase, parts in plan.phases.items():
        total = sum(parts.values())
        lines.append(_row(phase, gib(total), "" if total <= plan.memory_of_gpu else "does not fit"))
        lines += [_row(f"  {part}", gib(size)) for part, size in sorted(parts.items(), key=lambda pair: -pair[1])]
    lines += [_row(f"activations {words}", gib(size)) for words, size in plan.activations.items()]
    short = "" if plan.fits_host else "; does not fit"
    of = "" if plan.of_host is None else f", {plan.on_one_host} in {gib(plan.of_host)}{short}"
    lines.append(_row("host memory", gib(plan.host), f"per process{of}"))
    lines.append(
        _row("host memory at the start", gib(plan.host_at_start), "with text encoders, which are freed afterwards")
    )
    return lines


def _work(plan: Plan) -> list[str]:
    c, f = plan.counts, plan.flops
    lines = [
        "work",
        _row("updates", f"{c.updates:,}", f"{c.iterations} iterations"),
        _row("samples per update", f"{c.batch_size:,}", f"{c.trained_samples:,} in all"),
        _row("samples with draws of their own", f"{c.drawn:,}", "for the others the reference has no pass")
        if plan.disk.errors
        else "",
        _row("FLOPs of one forward pass", flops(f.forward), "one item"),
        _row("FLOPs per update", flops(f.update), _share_of_reference(plan)),
    ]
    if c.generated:
        used = "" if c.uses == 1 else f", each used {c.uses} times"
        lines += [
            _row(f"{_samples(plan)} per iteration", f"{c.generated_per_iteration:,}", f"{c.generated:,} in all{used}"),
            _row("of these, scored by loop.judge", f"{c.judged_per_iteration:,}") if c.judged_per_iteration else "",
            _row("forward passes per sample", f"{c.calls}", "steps, and guidance's second pass"),
            _row(f"FLOPs per {_samples(plan)[:-1]}", flops(f.generated_sample)),
        ]
    return [*lines, _row("FLOPs in all", flops(f.training + f.generation + f.previews))]


def _samples(plan: Plan) -> str:
    return "generated samples" if plan.counts.judged_per_iteration else "reference samples"


def _share_of_reference(plan: Plan) -> str:
    share = plan.flops.update_reference / plan.flops.update
    return f"{share:.0%} for the reference" if share else ""


def _disk(plan: Plan) -> list[str]:
    d = plan.disk
    cache = "unknown" if d.cache is None else gib(d.cache)
    items = f"{plan.items:,} items ({plan.items_from})" if plan.items is not None else plan.items_from
    return [
        "disk",
        _row("cache", cache, f"{items}; {d.per_item / 1e6:,.2f} MB each"),
        _row(_samples(plan), gib(d.samples), "to the end" if plan.hours.first_epoch else "one iteration at a time")
        if d.samples
        else "",
        _row("reference errors", f"{d.errors / 1e6:,.1f} MB", "to the end") if d.errors else "",
        _row("snapshots of the pool", gib(d.pool)) if d.pool else "",
        _row("checkpoints", gib(d.checkpoints), "one more than is kept, during writing"),
    ]


def _hours(plan: Plan) -> list[str]:
    h = plan.hours
    lines = [
        f"time on {plan.gpus} x {plan.gpu}",
        _row("prepare, VAE only", "unknown" if h.prepare is None else span(h.prepare), "on one GPU"),
        _row("training", span(h.training)),
        _row("an epoch with draws of its own", span(h.first_epoch), "samples included") if h.first_epoch else "",
        _row("a later epoch", span(h.later_epoch)) if h.later_epoch else "",
        _row(_samples(plan), span(h.generation)) if h.generation else "",
        _row("previews", span(h.previews), "on one GPU while the others wait") if h.previews else "",
        _row("moving weights, activations", span(h.moving), "to and from the CPU, or out of fewer bits")
        if h.moving
        else "",
    ]
    gpu_hours = f"{h.total * plan.gpus:,.0f} GPU hours" if h.total * plan.gpus >= 1 else ""
    return [*lines, _row("train in all", span(h.total), gpu_hours)]


def gib(size: int) -> str:
    """Bytes as text in GiB, or in MiB where that would be 0.00."""
    if 0 < size < GIB / 100:
        return f"{size / 2**20:,.2f} MiB"
    return f"{size / GIB:,.2f} GiB" if size < 10 * GIB else f"{size / GIB:,.1f} GiB"


def flops(count: int) -> str:
    """FLOPs as text with a metric prefix."""
    size, letter = next(((size, letter) for size, letter in UNITS if count >= size), (1, ""))
    return f"{count / size:,.2f} {letter}FLOP"


def _row(name: str, value: str, remark: str = "") -> str:
    return f"  {name:42}{value:>14}  {remark}".rstrip()
