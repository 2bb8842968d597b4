"""`plan --fit` has no more parts recomputed than the memory asks for."""

from dataclasses import astuple, replace
from itertools import product
from pathlib import Path

import pytest

from seppo_core.config.gpus import GIB, GPUS
from seppo_core.config.loader import load_config
from seppo_core.config.options import PlanRequest
from seppo_core.plan import fit, suggestions
from seppo_core.plan.counts import costs_of
from seppo_core.plan.estimate import plan_of
from seppo_core.plan.fit import propose
from seppo_core.plan.measure import measure
from seppo_core.plan.memory import memory
from seppo_core.plan.step_costs import Cost
from seppo_image.config import ImageConfig

SD15 = Path(__file__).parents[2] / "configs/image/sd15_lora_seppo.yaml"
SCHNELL = SD15.with_name("flux_schnell_lora_seppo.yaml")
QUANTIZE, ROOM = "model.quantize", GPUS["l40s"].memory
ON_24 = PlanRequest(gpu="rtx4090", items=20000, fit=True)


def between(costs, share):
    """A step with a share of equal parts recomputed."""
    none, whole = (astuple(costs.steps[used]) for used in (False, True))
    return Cost(*(round(b + (1 - share) * (a - b)) for a, b in zip(none, whole, strict=True)))


def test_no_more_is_recomputed_than_has_to_be(monkeypatch):
    recipe = load_config(str(SD15), ImageConfig)
    costs = replace(costs_of(recipe), decoding=None, previewing=None, denoising=None)
    none = costs.steps[False]

    def at(share):
        return between(costs, share)

    def count(config, only_step):
        counted.append(config.loop.checkpointing_share)
        return replace(costs, steps={True: at(config.loop.checkpointing_share)})

    monkeypatch.setattr(fit, "costs_of", lambda config: costs)
    monkeypatch.setattr(suggestions, "import_object", lambda name: count)
    monkeypatch.setattr(fit, "KEYS", {"loop.gradient_checkpointing": (True,)})
    plain = replace(recipe, loop=replace(recipe.loop, gradient_checkpointing=False))
    hours = []
    for share in (1.0, 0.75, 0.5, 0.25):
        counted = []
        held = sum(memory(recipe, replace(costs, steps={True: at(share), False: none}), 1)["training"].values())
        monkeypatch.setitem(GPUS, "rtx4090", replace(GPUS["rtx4090"], memory_gib=(held + 1) / GIB))
        found = propose(plain, ON_24)
        expected = {"loop.gradient_checkpointing": True} | ({} if share == 1 else {"loop.checkpointing_share": share})
        assert found.changes == expected and found.plan.fits and not found.before.fits
        # no share is counted that has no room for nearly all of its part
        assert counted == ([] if share == 1 else [share])
        hours.append(found.plan.hours.training)
    assert hours == sorted(hours, reverse=True) and len({*hours}) == 4
    # one that is given stays
    given = replace(recipe, loop=replace(recipe.loop, checkpointing_share=0.9))
    monkeypatch.setattr(fit, "KEYS", {"optimizer.name": ("adamw8bit",)})
    assert "loop.checkpointing_share" not in propose(given, ON_24).changes


def test_a_share_is_weighed_against_every_other_set(monkeypatch):
    """Schnell on two GPUs of 45 GiB: all blocks recomputed take longer than a base in 8 bits, a quarter of them as
    long, and they round nothing."""
    recipe = load_config(str(SCHNELL), ImageConfig)
    plain = replace(recipe, loop=replace(recipe.loop, gradient_checkpointing=False))
    # stored with and without recomputation
    costs, request = costs_of(recipe), replace(ON_24, gpu="l40s", gpus=2)
    counted = []

    def count(config, only_step):
        counted.append(config.loop.checkpointing_share)
        return replace(costs, steps={True: between(costs, config.loop.checkpointing_share)})

    monkeypatch.setattr(fit, "costs_of", lambda config: costs)
    monkeypatch.setattr(suggestions, "import_object", lambda name: count)
    monkeypatch.setattr(fit, "KEYS", {name: fit.KEYS[name] for name in ("loop.gradient_checkpointing", QUANTIZE)})
    found = propose(plain, request)
    assert counted == [0.25]
    assert found.changes == {
        "loop.gradient_checkpointing": True, "loop.context_parallel": 2, "loop.checkpointing_share": 0.25,
    }  # fmt: skip
    # by hand: every set with every share
    hours = {}
    for checkpointed, share in ((False, 1), *((True, one) for one in (0.25, 0.5, 0.75, 1))):
        for kind, context in product((None, "int8wo", "nf4"), (1, 2)):
            loop = replace(
                plain.loop, gradient_checkpointing=checkpointed, checkpointing_share=share, context_parallel=context
            )
            one = replace(plain, loop=loop, model=replace(plain.model, quantize=kind))
            known = replace(costs, steps=costs.steps | {True: between(costs, share)})
            if max(sum(parts.values()) for parts in memory(one, known, 2, ROOM).values()) <= ROOM:
                hours[kind, checkpointed, share, context] = plan_of(one, request, known).hours.total
    assert hours[None, True, 1, 2] > 1.05 * min(hours.values()) > hours[None, True, 0.25, 2]
    assert found.plan.hours.total == hours[None, True, 0.25, 2] == min(hours[key] for key in hours if key[0] is None)


@pytest.mark.slow
def test_the_share_that_is_proposed_fits_by_its_own_count(workshop, tmp_path, monkeypatch):
    plain = workshop.config(tmp_path / "run")
    recomputed = replace(plain, loop=replace(plain.loop, gradient_checkpointing=True))
    costs = measure(recomputed)
    half = replace(recomputed, loop=replace(recomputed.loop, checkpointing_share=0.5))
    needed = max(sum(parts.values()) for parts in memory(half, measure(half), 1).values())
    monkeypatch.setattr(fit, "costs_of", lambda config: costs)
    monkeypatch.setattr(fit, "KEYS", {"loop.gradient_checkpointing": (True,)})
    monkeypatch.setitem(GPUS, "rtx4090", replace(GPUS["rtx4090"], memory_gib=(needed + 1) / GIB))
    found = propose(plain, ON_24)
    assert found.changes == {"loop.gradient_checkpointing": True, "loop.checkpointing_share": 0.5}
    assert max(sum(parts.values()) for parts in found.plan.phases.values()) == needed
