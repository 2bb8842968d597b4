"""The betas of docs/coming_from.md: each trainer's own formula in float64 gives the loss that ours gives with the
beta of the page."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from seppo_core.methods.contrastive import seppo_loss
from seppo_core.methods.dro import dro_loss
from seppo_core.methods.dspo import dspo_loss
from seppo_core.methods.errors import Errors
from seppo_core.methods.guard import guard_limit, guard_products, scale_gradient
from seppo_core.methods.kto import LabelledErrors, kto_loss
from seppo_core.methods.mapo import mapo_loss
from tests.docs.pages import text_of

PAGE = text_of(Path("docs/coming_from.md"))
SHAPE = (16, 128, 128)
"""A latent of 16 channels at 1024 x 1024."""
ELEMENTS = 16 * 128 * 128


def differences(reduce: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(policy - reference) of winner and loser, each error summed or averaged over a latent's elements."""
    draws = torch.Generator().manual_seed(0)
    squares = [torch.rand(3, *SHAPE, generator=draws, dtype=torch.float64).square() / 1e3 for _ in range(4)]
    pw, pl, rw, rl = (getattr(one.flatten(1), reduce)(1) for one in squares)
    return pw - rw, pl - rl


def told(row: str, key: str = "beta") -> float:
    """The last `beta: N` (or another key) of the page's row that begins so."""
    (line,) = re.findall(rf"^\| {re.escape(row)}.*$", PAGE, re.MULTILINE)
    return float(re.findall(rf"{key}: ([\d.]+)`", line)[0 if "norm_type" not in row else -1])


FORMULAS = {
    "Diffusion-DPO's code": ("mean", lambda won, lost: -0.5 * 5000 * (won - lost)),
    "diffusers' SD-1.5 script": ("mean", lambda won, lost: 2500 * (lost - won)),
    "diffusers' SDXL script": ("mean", lambda won, lost: -0.5 * 5000 * (won - lost)),
    "SimpleTuner's Flow-DPO, `beta=b`, `norm_type=sum`": ("sum", lambda won, lost: 1 / 2 * (-won + lost)),
    "Flow-Factory's DPO": ("mean", lambda won, lost: -0.5 * 100 * (won - lost)),
}


@pytest.mark.parametrize("row", FORMULAS)
def test_a_beta_of_the_page_gives_the_other_trainer_s_loss(row):
    reduce, inside = FORMULAS[row]
    theirs = -logsigmoid(inside(*differences(reduce))).mean()
    winner, loser = differences("mean")
    zero = torch.zeros_like(winner)
    ours, _ = seppo_loss(Errors(winner, loser, zero, zero), torch.ones_like(winner), beta=told(row))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


def released(row: str, policy: Tensor, reference: Tensor, target: Tensor) -> Tensor:
    """What the released code computes with the options of the page's row, from predictions of (winners, losers)."""
    own, held = ((one - target).square().mean(dim=(2, 3)) for one in (policy, reference))
    inside = -0.5 * 5000 * ((own[0] - own[1]) - (held[0] - held[1]))
    match row:
        case "DSPO's code":
            pull = 5000 * (1 - torch.sigmoid(inside))[:, None, None]
            return ((policy - target)[0] - pull * (policy - reference)[0]).square().mean()
        case "Diffusion-SDPO's code":
            won, lost = (policy - target).detach()
            limit = (won.square().sum() / (won * lost).sum()).clamp(0, 1) if (won * lost).sum() > 0 else 1
            scaled = own[1].detach() + limit * (own[1] - own[1].detach())
            return -logsigmoid(-0.5 * 5000 * ((own[0] - scaled) - (held[0] - held[1]))).mean()
        case "Diffusion-DRO's code":
            return torch.relu((own[0] - held[0]) - (own[1] - held[1]) + 0.001).mean()
        case "MaPO's code":
            odds = [0.5 * error / (torch.exp(0.5 * error) - 1) for error in own]
            return own[0].mean() - (0.1 * logsigmoid(1000 * (odds[0] - odds[1]))).mean()
        case "Diffusion-KTO's code":
            gain = (held - own).flatten()
            label = torch.tensor([1.0, -1.0]).repeat_interleave(own.shape[1])
            return (1 - torch.sigmoid(label * 5000 * (gain - gain.mean().clamp(min=0).detach()))).mean()


def ours(row: str, policy: Tensor, reference: Tensor, target: Tensor) -> Tensor:
    own, held = ((one - target).square().mean(dim=(2, 3)) for one in (policy, reference))
    errors = Errors(*own, *held)
    match row:
        case "DSPO's code":
            drift = (policy - reference)[0].square().mean(dim=(1, 2))
            return dspo_loss(errors, drift, beta=told(row))[0]
        case "Diffusion-SDPO's code":
            products = guard_products(*(policy - target), torch.ones_like(own[0]))
            limit = guard_limit(*(one.sum() for one in products), mu=0)
            errors = errors._replace(policy_sample=scale_gradient(own[1], limit.expand(len(own[1]))))
            return seppo_loss(errors, torch.ones_like(own[0]), beta=told(row))[0]
        case "Diffusion-DRO's code":
            return dro_loss(errors, margin=told(row, "margin"))[0]
        case "MaPO's code":
            return mapo_loss(*own, beta=told(row))[0]
        case "Diffusion-KTO's code":
            desirable = torch.tensor([True, False]).repeat_interleave(own.shape[1])
            items = LabelledErrors(own.flatten(), held.flatten(), desirable)
            return kto_loss(items, beta=told(row), baseline=(held - own).mean())[0]


@pytest.mark.parametrize(
    "row", ["DSPO's code", "Diffusion-SDPO's code", "Diffusion-DRO's code", "MaPO's code", "Diffusion-KTO's code"]
)
def test_a_row_s_released_loss_and_its_gradient_are_ours(row):
    draws = torch.Generator().manual_seed(0)
    target, moves, away = torch.randn(3, 2, 3, 4, 5, generator=draws, dtype=torch.float64)
    # both residuals point one way, the loser's further: there the guard scales
    start = target + torch.tensor([0.3, 0.9]).view(2, 1, 1, 1) * (away[0] + 0.3 * away)
    policy, reference = (start + 1e-3 * moves).requires_grad_(), start
    losses = [loss(row, policy, reference, target) for loss in (released, ours)]
    torch.testing.assert_close(*losses, rtol=1e-9, atol=0)
    gradients = [torch.autograd.grad(loss, policy)[0] for loss in losses]
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-12)
