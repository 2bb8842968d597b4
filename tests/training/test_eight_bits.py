"""AdamW with moments of 8 bits, as bitsandbytes itself computes it on a CPU; `make parity` has that library."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from seppo_core.config.training import OptimizerConfig
from seppo_core.plan.memory import moments
from seppo_core.run.checkpoint import CheckpointFolder, load_checkpoint
from seppo_core.run.history import read_metrics
from seppo_core.training.optim import make_optimizer
from seppo_image import commands
from tests.dying import killed_before_update
from tests.training.test_resume import assert_same_run, final

bitsandbytes = pytest.importorskip("bitsandbytes", reason="not installed; `make parity` has it")
EIGHT = OptimizerConfig(name="adamw8bit", lr=1e-3)


def descend(config: OptimizerConfig, device: str, steps: int = 60) -> torch.Tensor:
    """Weights after so many steps towards a target, with noise on the gradient."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(64, 256, generator=generator).to(device)
    weight = nn.Parameter(torch.zeros(64, 256, device=device))
    optimizer = make_optimizer(config, {"w": weight})
    for _ in range(steps):
        weight.grad = weight.detach() - target + 0.1 * torch.randn(64, 256, generator=generator).to(device)
        optimizer.step()
    return weight.detach().cpu()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_it_goes_where_32_bits_go(device):
    whole = descend(replace(EIGHT, name="adamw"), device)
    eight = descend(EIGHT, device)
    assert not torch.equal(eight, whole)
    assert (eight - whole).norm() < 0.05 * whole.norm()


def test_it_decays_as_the_config_says():
    """AdamW's decay is by lr · weight_decay of the weight at every step, whatever the gradient."""
    for weight_decay in (0.0, 0.5):
        weight = nn.Parameter(torch.full((64, 256), 2.0))
        optimizer = make_optimizer(replace(EIGHT, lr=0.1, weight_decay=weight_decay), {"w": weight})
        for _ in range(3):
            weight.grad = torch.zeros_like(weight)
            optimizer.step()
        torch.testing.assert_close(weight.detach(), torch.full((64, 256), 2.0 * (1 - 0.1 * weight_decay) ** 3))


def test_its_moments_take_what_plan_counts():
    weight = nn.Parameter(torch.zeros(1024, 1024))
    optimizer = make_optimizer(EIGHT, {"w": weight})
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    held = [value for value in optimizer.state[weight].values() if torch.is_tensor(value)]
    assert {value.dtype for value in held} == {torch.uint8, torch.float32}
    work = SimpleNamespace(weights=SimpleNamespace(trained=weight.numel()))
    planned = moments(SimpleNamespace(optimizer=EIGHT), work)
    assert sum(value.numel() * value.element_size() for value in held) == pytest.approx(planned, rel=0.01)


def tensors(state: object) -> Iterator[torch.Tensor]:
    """All of them, however deep: bitsandbytes hides what is of bytes one level down."""
    if torch.is_tensor(state):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors(value)


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_run_goes_on_as_if_it_had_never_been_stopped(workshop, tmp_path, mode):
    def config(name: str, optimizer: str = "adamw8bit"):
        whole = workshop.config(tmp_path / name, mode)
        return replace(whole, optimizer=replace(whole.optimizer, name=optimizer))

    commands.train(config("undisturbed"))
    with killed_before_update(4):
        commands.train(config("run"))
    commands.train(config("run"))
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")

    saved = load_checkpoint(CheckpointFolder(tmp_path / "run" / "checkpoints").latest()).optimizer
    in_bytes = [value.dtype == torch.uint8 for value in tensors(saved["state"])]
    # bitsandbytes leaves tensors of less than 4096 numbers in float32
    assert any(in_bytes) == (mode == "full")

    commands.train(config("whole", "adamw"))
    a, b = final(tmp_path / "run"), final(tmp_path / "whole")
    assert any(not torch.equal(a[name], b[name]) for name in a)
    ours, theirs = (read_metrics(tmp_path / name) for name in ("run", "whole"))
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=0.05)
