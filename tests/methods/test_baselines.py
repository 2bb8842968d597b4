"""The related methods' losses against rows worked by hand and closed forms."""

from math import exp, log, log1p

import pytest
import torch

from seppo_core.methods.contrastive import seppo_loss
from seppo_core.methods.errors import Errors, anchor_sign
from seppo_core.methods.guard import guard_scale, scale_gradient
from seppo_core.methods.kto import LabelledErrors, kto_loss
from seppo_core.methods.mapo import mapo_loss, mapo_push
from seppo_core.methods.sspo import sspo_loss


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_sspo_by_hand():
    # first: the policy is better (1 < 2), so DPO: margin -(-1 - 1) = 2; second: worse, so (β/2) · p_w = 0.5 · 3
    rows = Errors(column(1, 3), column(3, 3), column(2, 2), column(2, 2))
    loss, metrics = sspo_loss(rows, anchor_sign(rows), beta=1)
    assert loss.item() == pytest.approx((log1p(exp(-2)) + 1.5) / 2)
    assert metrics["share_s_plus"] == 0.5


def test_sspo_pulls_a_winner_as_hard_in_both_branches():
    # at equal weights, where its halves beta make DPO's gradient with respect to the winner's error beta / 2
    pulls = []
    for sign in (1.0, -1.0):
        winner = column(2.0).requires_grad_()
        sspo_loss(Errors(winner, column(2.0), column(2.0), column(2.0)), column(sign), beta=7)[0].backward()
        pulls.append(winner.grad.item())
    assert pulls == pytest.approx([3.5, 3.5])


def test_mapo_by_hand():
    # h(x) = 0.5 x / (exp(0.5 x) - 1): h(0) = 1, h(0.002) = 1 - 0.0005 + 1e-6 / 12
    winner, loser = column(0.0), column(0.002)
    margin = 1000 * (1 - (0.001 / (exp(0.001) - 1)))
    loss, metrics = mapo_loss(winner, loser, beta=0.1)
    assert loss.item() == pytest.approx(0.1 * log1p(exp(-margin)), rel=1e-9)
    assert metrics["margin"].item() == pytest.approx(0.5, rel=1e-3)
    assert metrics["implicit_accuracy"] == 1


def test_mapo_lowers_the_winner_s_error_and_raises_the_loser_s():
    winner, loser = column(0.1, 0.0).requires_grad_(), column(0.1, 0.0).requires_grad_()
    mapo_loss(winner, loser, beta=0.1)[0].backward()
    assert (winner.grad > 0).all()
    # at T = 1000 and small errors: -beta σ(0) T h'(x), h'(0) = -ς/2 = -1/4, halved by the mean
    assert loser.grad[1].item() == pytest.approx(-0.1 * 0.5 * 1000 * 0.25 / 2)
    assert torch.autograd.gradcheck(lambda w, x: mapo_loss(w, x, beta=0.1)[0], (winner, loser))


def test_mapo_s_push_by_hand():
    # perfect predictions: m = 0, σ(0) = 1/2, h'(0) = -1/4, beta T = 100: the loser by 12.5, the winner by 1 + 12.5
    assert mapo_push(column(0.0), column(0.0), beta=0.1).item() == pytest.approx(12.5 / 13.5)
    # each item's own, whatever the batch: a pair told apart well (margin 221) is pushed no more
    both = mapo_push(column(0.0, 0.0), column(0.0, 1.0), beta=0.1)
    assert both[0].item() == pytest.approx(12.5 / 13.5)
    assert 0 <= both[1] < 1e-80
    assert not mapo_push(column(1.0).requires_grad_(), column(1.0), beta=0.1).requires_grad


def test_the_guard_weighs_mapo_s_push_by_hand():
    # winner's residual 1, so error 1; loser's 2, so 4: of the winner's own descent, 1, λ · push · 2 may be lost, 1 - μ
    w, second = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[2.0]], dtype=torch.float64)

    def slope(x: float) -> float:
        """h'(x) for h = y / (e^y - 1), y = x / 2."""
        y = x / 2
        return 0.5 * ((exp(y) - 1) - y * exp(y)) / (exp(y) - 1) ** 2

    # with T = 1000 the margin is 458, so that a usual beta would push nothing; βT σ(-m) = 1.5 is simple
    margin = 1000 * (0.5 / (exp(0.5) - 1) - 2 / (exp(2) - 1))
    beta = 1.5 * exp(margin) / 1000
    push = mapo_push(column(1.0), column(4.0), beta=beta)
    expected = -1.5 * slope(4.0) / (1 - 1.5 * slope(1.0))
    assert push.item() == pytest.approx(expected, rel=1e-9)
    assert guard_scale(w, second, push, mu=0.9).item() == pytest.approx(0.1 / (2 * expected), rel=1e-9)


def test_kto_by_hand():
    # gains r - p: 0.5 desirable, -0.25 undesirable; z = 0.125, beta 4: arguments 4 · 0.375 and -4 · -0.375
    errors = LabelledErrors(column(0.5, 0.75), column(1.0, 0.5), torch.tensor([True, False]))
    assert errors.gain.tolist() == [0.5, -0.25]
    loss, metrics = kto_loss(errors, beta=4, baseline=torch.tensor(0.125), weights=(2.0, 1.0))
    sigmoid = 1 / (1 + exp(-1.5))
    assert loss.item() == pytest.approx((2 * (1 - sigmoid) + (1 - sigmoid)) / 2)
    assert metrics["margin"].item() == pytest.approx((4 * 0.5 + 4 * 0.25) / 2)
    assert metrics["share_desirable"] == 0.5
    # of the desirable item alone: 0.5 for the policy, 0.5 less than the reference's
    assert metrics["desirable_error"] / 0.5 == 0.5 and metrics["desirable_gap"] / 0.5 == -0.5


def test_kto_s_baseline_is_never_negative_and_carries_no_gradient():
    policy, baseline = column(1.0).requires_grad_(), torch.tensor(-3.0, requires_grad=True)
    loss, metrics = kto_loss(LabelledErrors(policy, column(1.0), torch.tensor([True])), beta=4, baseline=baseline)
    assert loss.item() == 0.5
    assert metrics["baseline"] == 0
    loss.backward()
    assert baseline.grad is None
    assert policy.grad.item() > 0


def test_the_guard_keeps_the_winner_s_error_from_rising():
    """In output space a step along the guarded gradient changes the winner's error by at most -μ‖g_w‖²."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(400, 3, 4, generator=generator, dtype=torch.float64)
    second = torch.randn(400, 3, 4, generator=generator, dtype=torch.float64) + w
    # large second gradients are those that hurt
    second *= 5 * torch.rand(400, 1, 1, generator=generator, dtype=torch.float64)
    sign = torch.where(torch.rand(400, generator=generator) < 0.5, 1.0, -1.0).double()
    for mu in (0.0, 0.3):
        scale = guard_scale(w, second, sign, mu=mu)
        assert ((scale >= 0) & (scale <= 1)).all()
        assert (scale < 1).any() and (scale == 1).any()
        step = w - (scale * sign)[:, None, None] * second
        change = -(w * step).flatten(1).sum(1)
        bound = -mu * w.square().flatten(1).sum(1)
        limited = scale < 1
        torch.testing.assert_close(change[limited], bound[limited], rtol=1e-9, atol=1e-9)
        # where it does not act, the unguarded step was no worse than that
        assert (change[~limited] <= bound[~limited] + 1e-9).all()


def test_the_guard_leaves_what_does_not_hurt():
    w = torch.tensor([[1.0, 0.0]])
    assert guard_scale(w, torch.tensor([[-3.0, 1.0]]), torch.ones(1), mu=0.0).item() == 1
    assert guard_scale(w, torch.tensor([[0.0, 5.0]]), torch.ones(1), mu=0.0).item() == 1
    # inner product 4, squared norm 1: a quarter; with s = -1 the same second sample helps
    assert guard_scale(w, torch.tensor([[4.0, 9.0]]), torch.ones(1), mu=0.0).item() == 0.25
    assert guard_scale(w, torch.tensor([[4.0, 9.0]]), -torch.ones(1), mu=0.0).item() == 1


def test_a_scaled_gradient_leaves_the_value():
    x = column(2.0, 3.0).requires_grad_()
    y = scale_gradient(x, column(0.25, 1.0))
    assert y.tolist() == [2.0, 3.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.25, 1.0]


def test_losses_in_half_precision_are_computed_in_float32():
    half = Errors(*(torch.tensor([value], dtype=torch.bfloat16) for value in (1.0, 1.5, 2.0, 1.0)))
    whole = Errors(*(error.float() for error in half))
    for loss in (sspo_loss, seppo_loss):
        assert loss(half, torch.ones(1), beta=3.0)[0] == loss(whole, torch.ones(1), beta=3.0)[0]
    assert mapo_loss(half.policy_winner, half.policy_sample, beta=0.1)[0].dtype == torch.float32
    labelled = LabelledErrors(half[0], half[2], torch.tensor([True]))
    assert kto_loss(labelled, beta=1.0, baseline=torch.tensor(0.0))[0].dtype == torch.float32
    assert log(2) == pytest.approx(seppo_loss(Errors(*whole[:1] * 4), torch.ones(1), beta=5.0)[0].item())
