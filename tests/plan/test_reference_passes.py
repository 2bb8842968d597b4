"""A pass of the reference is counted once and repeated in the step with checkpointing; the base has no LoRA in it."""

from dataclasses import replace

import pytest
import torch

from seppo_core.config.training import PreviewConfig
from seppo_core.models.tuning import lora_layers
from seppo_core.plan.measure import measure
from seppo_core.training.setup import build_model
from seppo_image import commands


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


@pytest.mark.slow
def test_a_lora_that_has_the_base_as_its_reference_is_counted_in_the_policy_alone(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora", preview=PreviewConfig(prompts=("a red wall",), per_prompt=2))
    initial = replace(config, method=replace(config.method, reference="initial"))
    pool, base = measure(config), measure(initial)
    adapter = build_model(config, commands.load(config)).adapter
    tokens = []

    def seen(layer, given):
        tokens.append((given[0].numel() // layer.in_features) * (layer.in_features + layer.out_features))

    for layer in lora_layers(adapter.denoiser):
        layer.register_forward_pre_hook(seen)
    adapter.predict(
        adapter.denoiser, torch.ones(1, *pool.latent_shape), torch.ones(1), adapter.encode_prompts(["a red wall"])
    )
    # two FLOPs for a number of A or B and a token, winners and samples
    saved = 2 * config.tune.rank * sum(tokens) * 2 * config.loop.micro_batch_size
    assert saved > 0
    assert pool.step_reference - base.step_reference == saved
    assert all(pool.steps[used].flops - base.steps[used].flops == saved for used in (False, True))
    assert pool.denoising.flops > base.denoising.flops
    # previews are the policy's
    assert pool.previewing.flops == base.previewing.flops
    assert pool.weights == base.weights and pool.forward == base.forward
