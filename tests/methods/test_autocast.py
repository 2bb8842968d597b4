"""Weights that get other values while autocast is on."""

import warnings

import pytest
import torch

import seppo_core.methods.reference
from seppo_core.methods.reference import FrozenCopy, SwappedWeightsReference
from seppo_core.methods.step import check_parted, item_errors, pair_errors
from seppo_core.models.tuning import load_trainable_state, trainable_parameters, trainable_state, tune_full
from seppo_core.training.optim import Ema
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny
from tests.methods.test_objectives import batch_of, normal


def test_weights_that_change_in_place_under_one_autocast(tmp_path, monkeypatch):
    """Autocast keeps its casts by tensor. A copy has tensors of its own, so that nothing can be mistaken there."""
    adapter = StableDiffusion(tiny.stable_diffusion(tmp_path))
    adapter.denoiser.eval()
    tune_full(adapter.denoiser)
    batch = batch_of(adapter)
    start = trainable_state(adapter.denoiser)
    held, policy = (
        {name: value + 0.01 * normal(*value.shape, seed=seed) for name, value in start.items()} for seed in (50, 51)
    )
    load_trainable_state(adapter.denoiser, policy)
    reference = FrozenCopy(adapter.denoiser)
    reference.load(held)
    swapped = SwappedWeightsReference(adapter.denoiser)
    swapped.load(held)
    errors = {}
    for name, other in (("copied", reference), ("swapped", swapped)):
        with torch.autocast("cpu", torch.bfloat16):
            errors[name] = pair_errors(adapter, adapter.denoiser, other, batch)
    for a, b in zip(errors["copied"], errors["swapped"], strict=True):
        assert torch.equal(a, b)
    average = Ema(trainable_parameters(adapter.denoiser), 0.9)
    average.load(held)
    with torch.autocast("cpu", torch.bfloat16):
        item_errors(adapter, adapter.denoiser, batch)
        with average.in_place():
            found = item_errors(adapter, adapter.denoiser, batch)
        after = item_errors(adapter, adapter.denoiser, batch)
        load_trainable_state(adapter.denoiser, held)
        loaded = item_errors(adapter, adapter.denoiser, batch)
        load_trainable_state(adapter.denoiser, policy)
    alone = errors["copied"]
    with torch.autocast("cpu", torch.bfloat16):
        own = item_errors(adapter, adapter.denoiser, batch)
    assert torch.equal(found, loaded) and torch.equal(after, own) and not torch.equal(found, own)
    # a gap that is what it should be is not told of, one that is too small is
    gap = alone.winner_gap.abs().mean().item()
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        check_parted(adapter, adapter.denoiser, swapped, batch, gap)
    monkeypatch.setattr(seppo_core.methods.reference, "forget_casts", lambda: None)
    with torch.autocast("cpu", torch.bfloat16):
        wrong = pair_errors(adapter, adapter.denoiser, swapped, batch).winner_gap.abs().mean().item()
        with pytest.warns(UserWarning, match="one predicts with weights of the other"):
            check_parted(adapter, adapter.denoiser, swapped, batch, wrong)
