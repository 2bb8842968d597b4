"""`plan --fit` has no more parts recomputed than the memory asks for."""

from dataclasses import astuple, replace
from pathlib import Path

import pytest

from seppo_core.config.gpus import GIB, GPUS
from seppo_core.config.loader import load_config
from seppo_core.config.options import PlanRequest
from seppo_core.plan import fit, suggestions
from seppo_core.plan.counts import costs_of
from seppo_core.plan.fit import propose
from seppo_core.plan.measure import measure
from seppo_core.plan.memory import memory
from seppo_core.plan.step_costs import Cost
from seppo_image.config import ImageConfig

SD15 = Path(__file__).parents[2] / "configs/image/sd15_lora_seppo.yaml"
ON_24 = PlanRequest(gpu="rtx4090", items=20000, fit=True)


def test_no_more_is_recomputed_than_has_to_be(monkeypatch):
    recipe = load_config(str(SD15), ImageConfig)
    costs = replace(costs_of(recipe), decoding=None, previewing=None, denoising=None)
    none, all_of_them = costs.steps[False], costs.steps[True]

    def at(share):
        return Cost(
            *(round(b + (1 - share) * (a - b)) for a, b in zip(astuple(none), astuple(all_of_them), strict=True))
        )

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
        # no share is counted that would have to keep less than half of its part
        assert counted == {1.0: [], 0.75: [0.5, 0.75], 0.5: [0.25, 0.5], 0.25: [0.25]}[share]
        hours.append(found.plan.hours.training)
    assert hours == sorted(hours, reverse=True) and len({*hours}) == 4
    # one that is given stays
    given = replace(recipe, loop=replace(recipe.loop, checkpointing_share=0.9))
    monkeypatch.setattr(fit, "KEYS", {"optimizer.name": ("adamw8bit",)})
    assert "loop.checkpointing_share" not in propose(given, ON_24).changes


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
