"""A pass of the reference is counted once and repeated in the step with checkpointing."""

from dataclasses import replace

import pytest

from seppo_core.plan.measure import measure


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_pass_of_the_reference_that_is_not_run_again_costs_what_it_does(workshop, tmp_path, mode):
    config = workshop.config(tmp_path / "run", mode)
    loop = replace(config.loop, gradient_checkpointing=True, mixed_precision="bf16")
    config = replace(config, loop=loop, method=replace(config.method, anchor_draws=2))
    both, alone = measure(config), measure(config, only_step=True)
    # `alone` runs the step with checkpointing only, whose reference has no earlier pass to repeat
    assert both.steps[True] == alone.steps[True] != both.steps[False]
    assert (both.step_reference, both.reference_peak) == (alone.step_reference, alone.reference_peak)
    assert both.step_reference > 0
