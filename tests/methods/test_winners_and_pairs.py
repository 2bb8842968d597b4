"""Diffusion-DRO, GT-Pair, Poly-DPO and DSPO against rows worked by hand and against their formulas on predictions."""

from math import exp, log, log1p

import pytest
import torch

from seppo_core.config.methods.poly_dpo import PolyDpoConfig
from seppo_core.methods.contrastive import seppo_loss
from seppo_core.methods.dro import dro_loss
from seppo_core.methods.dspo import dspo_loss
from seppo_core.methods.errors import Errors
from seppo_core.methods.gt_pair import GtPair
from seppo_core.methods.poly_dpo import poly_dpo_loss
from seppo_core.methods.reference_pool import ReferencePool


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_dro_by_hand():
    # σ_w = -1, σ_l = 1: -2 + 0.5 < 0, so nothing; then σ_w = 0.25, σ_l = 0: 0.25 + 0.5
    rows = Errors(column(1, 2.25), column(3, 2), column(2, 2), column(2, 2))
    loss, metrics = dro_loss(rows, margin=0.5)
    assert loss.item() == 0.375
    assert metrics["share_active"] == 0.5
    assert not {"margin", "share_s_plus"} & metrics.keys()


def test_dro_learns_nothing_of_a_pair_that_is_told_apart():
    winner, sample = column(1, 2.25).requires_grad_(), column(3, 2).requires_grad_()
    dro_loss(Errors(winner, sample, column(2, 2), column(2, 2)), margin=0.5)[0].backward()
    assert winner.grad.tolist() == [0, 0.5]
    assert sample.grad.tolist() == [0, -0.5]


def test_poly_dpo_by_hand():
    # margin 2: p = 1 / (1 + e^-2); equal errors: p = 1/2
    rows = Errors(column(1, 2), column(3, 2), column(2, 2), column(2, 2))
    loss, _ = poly_dpo_loss(rows, beta=1, alpha=8)
    doubt = 1 / (1 + exp(2))
    assert loss.item() == pytest.approx((log1p(exp(-2)) + 8 * doubt + log(2) + 4) / 2, rel=1e-12)
    assert poly_dpo_loss(rows, beta=1, alpha=0)[0] == seppo_loss(rows, torch.ones(2), beta=1)[0]


def test_poly_dpo_never_prefers_the_loser():
    with pytest.raises(ValueError, match=r"method\.alpha=-1\.5 must be at least -1"):
        PolyDpoConfig(alpha=-1.5)
    for margin in (-8.0, 0.0, 8.0):
        winner = column(2 - margin).requires_grad_()
        poly_dpo_loss(Errors(winner, column(2), column(2), column(2)), beta=1, alpha=-1)[0].backward()
        assert winner.grad.item() > 0


def test_gt_pair_adds_the_winner_s_error():
    rows = Errors(column(1, 2), column(3, 2), column(2, 2), column(2, 2))
    assert GtPair(beta=3).sft_weight == 1
    assert GtPair(beta=3).preference(rows, torch.ones(2))[0] == seppo_loss(rows, torch.ones(2), beta=3)[0]


def test_dspo_is_its_squared_norm_on_predictions():
    """The loss of the errors, and its gradient, equal those written on predictions, with beta_dpo = 2 beta."""
    generator = torch.Generator().manual_seed(0)
    target, policy, reference = torch.randn(3, 2, 5, 4, 3, generator=generator, dtype=torch.float64)
    policy.requires_grad_()

    def by_errors() -> torch.Tensor:
        own, held = ((x - target).square().flatten(2).mean(2) for x in (policy, reference))
        moved = (policy - reference)[0].square().flatten(1).mean(1)
        return dspo_loss(Errors(*own, *held), moved, beta=0.7)[0]

    def by_predictions() -> torch.Tensor:
        beta_dpo = 1.4
        own, held = ((x - target).square().mean(dim=(2, 3)) for x in (policy, reference))
        inside = -0.5 * beta_dpo * ((own[0] - own[1]) - (held[0] - held[1]))
        pull = beta_dpo * (1 - torch.sigmoid(inside))
        moved = (policy - reference)[0]
        return ((policy - target)[0] - pull[:, None, None] * moved).square().mean(dim=(1, 2)).mean()

    losses = [by_errors(), by_predictions()]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(loss, policy)[0] for loss in losses), rtol=1e-9, atol=1e-12)


def test_a_pool_can_sample_from_another_snapshot_than_its_reference(tmp_path):
    pool = ReferencePool(tmp_path, "initial", sampled_from="latest")
    assert [(pool.choose(k), pool.choose_sampler(k)) for k in range(3)] == [(0, 0), (0, 1), (0, 2)]
    assert pool.keeps(2)
    assert not ReferencePool(tmp_path, "initial").keeps(2)
