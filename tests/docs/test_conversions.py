"""The betas of docs/coming_from.md: each trainer's own formula in float64 gives the loss that ours gives with the
beta of the page."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn.functional import logsigmoid

from seppo_core.methods.contrastive import seppo_loss
from seppo_core.methods.errors import Errors
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


def told(row: str) -> float:
    """The last `beta: N` of the page's row that begins so."""
    (line,) = re.findall(rf"^\| {re.escape(row)}.*$", PAGE, re.MULTILINE)
    return float(re.findall(r"beta: (\d+)`", line)[0 if "norm_type" not in row else -1])


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
