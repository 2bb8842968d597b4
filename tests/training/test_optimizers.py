"""The running average against its closed form and diffusers' own, and the optimisers that can be asked for."""

import sys
from types import SimpleNamespace

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from seppo_core.config.training import OptimizerConfig
from seppo_core.training.optim import Ema, make_optimizer, make_schedule


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
    ("schedule", "expected"), [("constant", [0.5, 1, 1, 1]), ("linear", [0.5, 1, 2 / 3, 1 / 3]), ("cosine", None)]
)
def test_schedules(schedule, expected):
    config = OptimizerConfig(lr=1.0, schedule=schedule, warmup_updates=2)
    optimizer = make_optimizer(config, {"w": nn.Parameter(torch.ones(1))})
    rates = make_schedule(config, optimizer, total=5)
    found = []
    for _ in range(4):
        optimizer.step()
        rates.step()
        found.append(rates.get_last_lr()[0])
    assert found == pytest.approx(expected) if expected else found[1] == 1 and found[3] < 0.3
