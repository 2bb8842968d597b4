"""The running average against its closed form and diffusers' own, and the optimisers that can be asked for."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from seppo_core.config.training import OptimizerConfig
from seppo_core.plan.weights import _factored
from seppo_core.training.optim import Ema, apply_config, check_moments, make_optimizer, make_schedule


def moved(parameter: nn.Parameter, steps: int, ema) -> None:
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        with torch.no_grad():
            parameter += torch.randn(parameter.shape, generator=generator)
        ema(step + 1)


def test_the_average_is_diffusers_own():
    ours, theirs = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(5))
    ema, model = Ema({"w": ours}, 0.8), EMAModel([theirs], decay=0.8)
    moved(ours, 30, ema.update)
    # diffusers counts from the step before: its first one has decay 0
    moved(theirs, 30, lambda step: setattr(model, "optimization_step", step) or model.step([theirs]))
    torch.testing.assert_close(ema.average["w"], model.shadow_params[0])


def test_the_average_by_hand():
    weight = nn.Parameter(torch.tensor([1.0]))
    ema = Ema({"w": weight}, 0.99)
    for done, value in enumerate([11.0, 23.0], start=1):
        weight.data.fill_(value)
        ema.update(done)
    # decays 2/11 and 3/12: 1 -> 2/11 + 11 · 9/11 = 101/11, -> 0.25 · 101/11 + 0.75 · 23
    assert ema.average["w"].item() == pytest.approx(0.25 * 101 / 11 + 0.75 * 23, rel=1e-6)


def test_the_weights_are_the_average_only_inside():
    weight = nn.Parameter(torch.ones(3))
    ema = Ema({"w": weight}, 0.5)
    weight.data.fill_(5.0)
    with pytest.raises(RuntimeError, match="planted"), ema.in_place():
        assert torch.equal(weight, torch.ones(3))
        raise RuntimeError("planted")
    assert torch.equal(weight, torch.full((3,), 5.0))
    assert weight.requires_grad


def test_the_average_comes_back_from_a_checkpoint():
    weight = nn.Parameter(torch.ones(3))
    ema = Ema({"w": weight}, 0.5)
    weight.data.fill_(3.0)
    ema.update(1)
    state = ema.state()
    again = Ema({"w": nn.Parameter(torch.zeros(3))}, 0.5)
    again.load(state)
    assert torch.equal(again.average["w"], ema.average["w"])
    with pytest.raises(ValueError, match="names differ"):
        again.load({"v": torch.zeros(3)})


def test_eight_bits_need_their_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match=r"adamw8bit needs bitsandbytes; pip install 'seppo\[gpu\]', or use adamw"):
        make_optimizer(OptimizerConfig(name="adamw8bit"), {"w": nn.Parameter(torch.ones(3))})


def test_eight_bits_need_a_library_that_knows_the_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(__version__="0.49.2"))
    with pytest.raises(ValueError, match=r"a CUDA device with bitsandbytes 0\.49\.2.*upgrade to 0\.50\.0"):
        make_optimizer(OptimizerConfig(name="adamw8bit"), {"w": nn.Parameter(torch.ones(3))})


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [1, 1, 1]), ("linear", [1, 2 / 3, 1 / 3]), ("cosine", [1, 0.75, 0.25])]
)
def test_schedules(schedule, expected):
    config = OptimizerConfig(lr=1.0, weight_decay=0.0, schedule=schedule, warmup_updates=2)
    # update by update; in the first version the warm-up's first one moved nothing
    for draws, first in ((1, [0, 0.5]), (2, [0.5, 1])):
        assert steps_of(config, total=5, draws=draws) == pytest.approx([*first, *expected])


def steps_of(config: OptimizerConfig, total: int, draws: int = 2, before: OptimizerConfig | None = None) -> list[float]:
    """How far each update moves a weight whose gradient is 1, first with the config `before` up to update 3, if given,
    then from its checkpoint."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    make = lambda c: (o := make_optimizer(c, {"w": weight}), make_schedule(c, o, total, draws))  # noqa: E731
    optimizer, schedule = make(before or config)
    found = []
    for number in range(total):
        if before and number == 3:
            states = [one.state_dict() for one in (optimizer, schedule)]
            optimizer, schedule = make(config)
            check_moments(config, states[0])
            for one, state in zip((optimizer, schedule), states, strict=True):
                one.load_state_dict(state)
            apply_config(config, optimizer, schedule)
        start = weight.item()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        schedule.step()
        found.append(start - weight.item())
    return found


OLD = OptimizerConfig(lr=1e-3, weight_decay=0.0, schedule="linear", warmup_updates=2)


@pytest.mark.parametrize(
    "changes",
    [{}, {"lr": 3e-3}, {"schedule": "cosine"}, {"warmup_updates": 5}, {"eps": 0.5}, {"weight_decay": 0.5}],
    ids=str,
)
def test_a_resumed_optimizer_takes_what_was_changed(changes):
    new = replace(OLD, **changes)
    found = steps_of(new, total=6, before=OLD)
    # at a steady gradient the moments are the same under both, and no more is remembered of what was
    expected = [*steps_of(OLD, total=6)[:3], *steps_of(new, total=6)[3:]]
    if "weight_decay" in changes:
        assert found[:3] == expected[:3] and all(a != b for a, b in zip(found[3:], steps_of(OLD, 6)[3:], strict=True))
    else:
        assert found == expected if not changes else found == pytest.approx(expected, rel=1e-9)
        assert bool(changes) is (found != steps_of(OLD, total=6))


def test_one_kernel_takes_the_same_steps_and_goes_on_with_the_moments_of_the_other():
    fused = replace(OLD, fused=True)
    expected = steps_of(OLD, total=6)
    for new, before in ((fused, None), (fused, OLD), (OLD, fused)):
        assert steps_of(new, total=6, before=before) == pytest.approx(expected, rel=1e-6)
    weight = nn.Parameter(torch.ones(1))
    assert [make_optimizer(c, {"w": weight}).param_groups[0]["fused"] for c in (OLD, fused)] == [None, True]


def test_moments_of_another_optimizer_are_refused():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer(OLD, {"w": weight})
    check_moments(OptimizerConfig(name="adamw8bit"), optimizer.state_dict())
    weight.grad = torch.ones(1)
    optimizer.step()
    check_moments(OLD, optimizer.state_dict())
    with pytest.raises(ValueError, match=r"optimizer\.name=adamw8bit cannot go on with the checkpoint's moments"):
        check_moments(OptimizerConfig(name="adamw8bit"), optimizer.state_dict())


def test_a_resumed_optimizer_takes_other_betas():
    weights = {"w": nn.Parameter(torch.zeros(1))}
    optimizer = make_optimizer(OLD, weights)
    apply_config(replace(OLD, betas=(0.5, 0.6)), optimizer, make_schedule(OLD, optimizer, 5))
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)


def test_adafactor_by_hand():
    """Two steps of arXiv 1804.04235 (algorithms 4 and 5) with the rate as it is: no first moment, update clipped to an
    RMS of 1, decay 1 − step^−0.8."""
    config = OptimizerConfig(name="adafactor", lr=0.1, weight_decay=0.5)
    weight = nn.Parameter(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    optimizer = make_optimizer(config, {"w": weight})
    expected, rows, columns = weight.detach().double().numpy().copy(), 0.0, 0.0
    for step, gradient in enumerate([[[1.0, -2.0, 0.5], [3.0, 1.0, 2.0]], [[-1.0, 1.0, 4.0], [0.5, 2.0, -3.0]]], 1):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        decay, square = 1 - step**-0.8, np.array(gradient) ** 2
        rows = decay * rows + (1 - decay) * square.mean(1)
        columns = decay * columns + (1 - decay) * square.mean(0)
        update = np.array(gradient) / np.sqrt(np.outer(rows, columns) / rows.mean())
        update /= max(1.0, np.sqrt((update**2).mean()))
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * update
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-5)
    held = [value for value in optimizer.state[weight].values() if torch.is_tensor(value) and value.ndim]
    assert sum(value.numel() for value in held) == _factored(weight) == 5
    check_moments(config, optimizer.state_dict())
    with pytest.raises(ValueError, match=r"optimizer\.name=adamw8bit cannot go on"):
        check_moments(replace(config, name="adamw8bit"), optimizer.state_dict())
    apply_config(replace(config, lr=0.2, weight_decay=0.0), optimizer, make_schedule(config, optimizer, 5))
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.2, 0.0)
