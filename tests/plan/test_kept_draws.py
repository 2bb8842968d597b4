"""What `plan` counts of draws that come again, of a recipe whose costs are stored."""

from dataclasses import replace
from pathlib import Path

import pytest

from seppo_core.config.loader import load_config
from seppo_core.config.method import MethodConfig
from seppo_core.config.options import PlanRequest
from seppo_core.plan.counts import costs_of
from seppo_core.plan.estimate import plan_of
from seppo_core.plan.report import as_text
from seppo_core.run.disk_budget import errors_held, run_bytes, samples_held
from seppo_image.config import ImageConfig

RECIPE = Path(__file__).parents[2] / "configs" / "image" / "sd15_lora_seppo.yaml"
ITEMS = 1000


@pytest.fixture(scope="module")
def recipe():
    config = load_config(RECIPE, ImageConfig)
    loop = replace(config.loop, iterations=6, updates_per_iteration=20, batch_size=64)
    return replace(config, loop=loop, method=replace(config.method, reference="initial"))


def planned(config, draws: int | None, **request):
    config = replace(config, loop=replace(config.loop, reference_draws=draws))
    return plan_of(config, PlanRequest(gpu="rtx4090", **request), costs_of(config))


def test_later_epochs_have_neither_samples_nor_passes_of_the_reference(recipe):
    live, plan = planned(recipe, None, items=ITEMS), planned(recipe, 2, items=ITEMS)
    # 120 updates of 64 are 7.68 epochs
    assert (plan.counts.trained_samples, plan.counts.drawn, live.counts.drawn) == (7680, 2000, 7680)
    assert plan.counts.generated == 2000 and live.counts.generated == 7680
    assert plan.flops.generation * 7680 == live.flops.generation * 2000
    saved = live.flops.training - plan.flops.training
    assert saved == pytest.approx(plan.flops.update_reference / 64 * 5680, rel=1e-9)
    # a LoRA: policy forward and backward on two halves, 4 and a little, against 2 of the reference
    assert 6 / 4 > plan.flops.update / (plan.flops.update - plan.flops.update_reference) > 1.25
    hours = plan.hours
    assert 2 * hours.first_epoch + 5.68 * hours.later_epoch == pytest.approx(hours.training + hours.generation)
    assert live.hours.first_epoch is None
    assert any("loop.reference_draws=2: what is kept is met 3.8 times on average" in note for note in plan.notes)
    latents = 4 * 64 * 64 * 4
    asked = run_bytes(replace(recipe, loop=replace(recipe.loop, reference_draws=2)), [], latents, ITEMS)
    assert plan.disk.samples == asked["reference samples"] == 2000 * latents
    assert plan.disk.errors == asked["reference errors"] == 2000 * 2 * 4
    text = as_text(plan)
    for row in ("samples with draws of their own", "an epoch with draws of its own", "a later epoch"):
        assert row in text and row not in as_text(live)


def test_held_out_items_are_none_of_an_epoch(recipe):
    config = replace(recipe, data=replace(recipe.data, validation=0.1))
    assert planned(config, 2, items=ITEMS).counts.drawn == 1800


@pytest.mark.parametrize(
    ("draws", "items", "told"), [(8, ITEMS, "saves nothing: no draw comes again"), (2, None, "give --items")]
)
def test_a_plan_says_where_nothing_is_saved(recipe, draws, items, told):
    plan = planned(recipe, draws, items=items)
    assert any(note.startswith(f"loop.reference_draws={draws}") and told in note for note in plan.notes)
    assert plan.counts.drawn == plan.counts.trained_samples


def test_pairs_keep_errors_alone(recipe):
    config = replace(
        recipe, method=MethodConfig.variants()["dpo"](), data=replace(recipe.data, supervision="pairs", flip=False)
    )
    config = replace(config, loop=replace(config.loop, reference_draws=4))
    assert (samples_held(config, ITEMS), errors_held(config, ITEMS)) == (0, 2 * 4000)


def test_samples_alone_that_come_again(recipe):
    live = planned(recipe, None, items=ITEMS)
    config = replace(recipe, reference_samples=replace(recipe.reference_samples, repeat_after=2))
    plan = planned(config, None, items=ITEMS)
    assert (plan.counts.generated, plan.counts.drawn) == (2000, 7680)
    assert plan.flops.training == live.flops.training
    assert plan.flops.generation * 7680 == live.flops.generation * 2000
    assert 2 * plan.hours.first_epoch + 5.68 * plan.hours.later_epoch == pytest.approx(
        plan.hours.training + plan.hours.generation
    )
    assert (plan.disk.samples, plan.disk.errors) == (2000 * 4 * 64 * 64 * 4, 0)


def test_samples_that_serve_several_pairs(recipe):
    live = planned(recipe, None, items=ITEMS)
    config = replace(recipe, reference_samples=replace(recipe.reference_samples, uses=4))
    plan = planned(config, None, items=ITEMS)
    assert (plan.counts.generated_per_iteration, plan.counts.generated) == (20 * 64 // 4, 7680 // 4)
    assert (plan.counts.drawn, plan.counts.calls) == (7680, live.counts.calls)
    assert plan.flops.training == live.flops.training
    assert 4 * plan.flops.generation == live.flops.generation
    assert 4 * plan.hours.generation == pytest.approx(live.hours.generation)
    # those of one iteration, float32
    assert plan.disk.samples == run_bytes(config, [], 4 * 64 * 64 * 4)["reference samples"] == 320 * 4 * 64 * 64 * 4
    assert any("uses=4: an own sample is met 4 times in its iteration" in note for note in plan.notes)
    assert "1,920 in all, each used 4 times" in as_text(plan) and "each used" not in as_text(live)
    few = planned(config, None, items=4 * ITEMS)
    assert "48% of the winners are used, each 4 times" in few.notes


def test_steps_without_guidance_take_one_pass(recipe):
    whole = planned(recipe, None, items=ITEMS)
    samples = replace(recipe.reference_samples, guidance_interval=(0.2, 0.7))
    part = planned(replace(recipe, reference_samples=samples), None, items=ITEMS)
    # 20 steps, of which 10 are guided
    assert (whole.counts.calls, part.counts.calls) == (40, 30)
    assert part.flops.generated_sample == pytest.approx(0.75 * whole.flops.generated_sample)
    assert part.flops.update == whole.flops.update


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"guidance_interval": (0.7, 0.2)}, "must be two rising shares of the steps within 0 and 1"),
        ({"guidance_interval": (0.2, 0.7), "guidance_scale": 1.0}, "has no meaning with reference_samples.guidance_sc"),
    ],
)
def test_an_interval_that_guides_nothing_is_refused(recipe, changes, told):
    with pytest.raises(ValueError, match=told):
        replace(recipe.reference_samples, **changes)
