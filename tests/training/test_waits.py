"""An update waits for its device once: to read its scalars, all of them together."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from seppo_core.config.training import LoopConfig
from seppo_core.distributed.ranks import make_accelerator
from seppo_core.training.optim import Stepper
from seppo_core.training.parallel import make_strategy
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from tests.waits import waits


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_an_update_reads_once(workshop, tmp_path, monkeypatch, mode):
    counted = []
    update = Trainer._update

    def watched(self, *arguments):
        with waits() as found:
            metrics = update(self, *arguments)
        counted.append(found)
        return metrics

    monkeypatch.setattr(Trainer, "_update", watched)
    config = workshop.config(tmp_path / "run", mode)
    # torch's other AdamW on a CPU counts its steps in tensors that it reads, which is no waiting
    commands.train(replace(config, optimizer=replace(config.optimizer, fused=True, ema_decay=0.9)))
    # at the first updates of an iteration ties are checked, and at update 2, 3 and 5 what the reference is
    assert len(counted) == 6 and counted[5] == ["tolist"]
    assert len(counted[0]) > 1


@pytest.mark.parametrize(
    ("loss", "gradient", "applied"), [(1.0, 3.0, True), (1.0, float("inf"), False), (float("nan"), 3.0, False)]
)
def test_what_is_read_at_once_decides_whether_weights_move(loss, gradient, applied):
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.full((1,), gradient)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    stepper = Stepper(make_strategy(make_accelerator(), LoopConfig()), optimizer, schedule, [weight], 2.0)
    numbers, moved = stepper.step({"gap": torch.tensor(0.25), "loss": torch.tensor(loss)})
    assert moved is applied and list(numbers) == ["gap", "loss", "grad_norm"]
    assert numbers["gap"] == 0.25 and numbers["grad_norm"] == gradient
    # clipped to a norm of 2
    assert weight.item() == pytest.approx(0.8 if applied else 1.0)
