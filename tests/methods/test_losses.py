"""The losses against hand-worked rows, finite differences in float64, and their invariants."""

from math import exp, log, log1p

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seppo_core.methods.contrastive import seppo_loss
from seppo_core.methods.errors import Errors, anchor_sign, residual, squared_error
from seppo_core.methods.sft import sft_loss


def errors(policy_winner, policy_sample, reference_winner, reference_sample) -> Errors:
    return Errors(
        *(torch.tensor([float(x)]) for x in (policy_winner, policy_sample, reference_winner, reference_sample))
    )


# policy_winner, policy_sample, reference_winner, reference_sample, flipper, beta, sign, loss
ROWS = [
    # the policy is better on the winner (1 < 2), so s = +1: σ_w = -1, σ_r = 1, margin -(-1 - 1) = 2
    (1, 3, 2, 2, "sign", 1, +1, log1p(exp(-2))),
    # the policy is worse on the winner (3 > 2), so s = -1: σ_w = 1, σ_r = 1, margin -(1 + 1) = -2
    (3, 3, 2, 2, "sign", 1, -1, log1p(exp(2))),
    # the same errors with the sample left out: margin -1
    (3, 3, 2, 2, "indicator", 1, 0, log1p(exp(1))),
    # and always a loser: margin -(1 - 1) = 0
    (3, 3, 2, 2, "off", 1, +1, log(2)),
    # a tie counts as worse: σ_w = 0, σ_r = 0.5, s = -1, margin -0.5, times beta 4
    (2, 2.5, 2, 2, "sign", 4, -1, log1p(exp(2))),
    # nothing moved yet
    (2, 2, 2, 2, "sign", 2000, -1, log(2)),
    # beta multiplies the difference of errors and there is no other factor: 10 · (0.1 + 0.3) = 4
    (1.9, 2.3, 2, 2, "sign", 10, +1, log1p(exp(-4))),
]


@pytest.mark.parametrize(("pw", "ps", "rw", "rs", "flipper", "beta", "sign", "loss"), ROWS)
def test_hand_worked_rows(pw, ps, rw, rs, flipper, beta, sign, loss):
    row = errors(pw, ps, rw, rs)
    s = anchor_sign(row, flipper)
    assert s.item() == sign
    assert seppo_loss(row, s, beta=beta)[0].item() == pytest.approx(loss, rel=1e-5)


def test_sign_everywhere_plus_is_diffusion_dpo():
    # Diffusion-DPO's own formula, written as its code writes it: -0.5 · beta_dpo · (difference of differences)
    generator = torch.Generator().manual_seed(0)
    pw, ps, rw, rs = 1e-3 * torch.rand(4, 16, generator=generator, dtype=torch.float64)
    inside = -0.5 * 5000 * ((pw - ps) - (rw - rs))
    dpo = -torch.log(torch.sigmoid(inside)).mean()
    loss, _ = seppo_loss(Errors(pw, ps, rw, rs), torch.ones(16), beta=2500)
    torch.testing.assert_close(loss, dpo, rtol=1e-9, atol=0)


def test_gradient_is_the_paper_s_without_its_spurious_minus():
    # ∇L = β σ(β(σ_w − sσ_r)) ∇(σ_w − sσ_r), here with respect to the policy's two errors
    pw = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)
    ps = torch.tensor([0.8, 0.2], dtype=torch.float64, requires_grad=True)
    row = Errors(pw, ps, torch.tensor([0.5, 0.6], dtype=torch.float64), torch.tensor([0.4, 0.5], dtype=torch.float64))
    s = anchor_sign(row)
    seppo_loss(row, s, beta=3.0)[0].backward()
    gap = (row.winner_gap - s * row.sample_gap).detach()
    factor = 3.0 * torch.sigmoid(3.0 * gap) / 2
    torch.testing.assert_close(pw.grad, factor)
    torch.testing.assert_close(ps.grad, -s * factor)


@pytest.mark.parametrize("flipper", ["sign", "indicator", "off"])
def test_gradient_against_finite_differences(flipper):
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(4, 6, generator=generator, dtype=torch.float64)
    policy = values[:2].clone().requires_grad_(True)

    def loss(policy):
        row = Errors(policy[0], policy[1], values[2], values[3])
        return seppo_loss(row, anchor_sign(row, flipper), beta=2.0)[0]

    assert torch.autograd.gradcheck(loss, policy, eps=1e-7, atol=1e-6)


def test_sign_carries_no_gradient():
    pw = torch.tensor([1.0], requires_grad=True)
    row = Errors(pw, pw, torch.tensor([2.0]), torch.tensor([2.0]))
    for flipper in ("sign", "indicator", "off"):
        assert not anchor_sign(row, flipper).requires_grad


def test_unknown_flipper_names_the_known():
    with pytest.raises(ValueError, match=r'flipper=.signs. is not known; use "sign", "indicator" or "off"'):
        anchor_sign(errors(1, 1, 1, 1), "signs")


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_is_raised_and_double_left_alone(dtype, expected):
    prediction, target = torch.zeros(2, 3, 4, 4, dtype=dtype), torch.ones(2, 3, 4, 4, dtype=dtype)
    assert squared_error(residual(prediction, target)).dtype == expected
    row = Errors(*torch.rand(4, 2).to(dtype))
    loss, metrics = seppo_loss(row, anchor_sign(row), beta=1.0)
    assert loss.dtype == expected
    assert not any(value.requires_grad for value in metrics.values())


def test_squared_error_in_half_precision_is_not_a_half_precision_mean():
    # the sum of 4096 squares of 1/64 in bfloat16 stalls; in float32 the mean is exact
    prediction = torch.full((1, 4, 32, 32), 1 / 64, dtype=torch.bfloat16)
    assert squared_error(residual(prediction, torch.zeros_like(prediction))).item() == 1 / 4096


def test_squared_error_is_a_mean_over_all_but_the_batch():
    prediction = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 4.0]]]])
    assert squared_error(residual(prediction, torch.zeros_like(prediction))).tolist() == [2.5, 8.0]


def test_metrics_by_name():
    row = Errors(*torch.tensor([[1.0, 3.0], [3.0, 3.0], [2.0, 2.0], [2.0, 2.0]]))
    _, metrics = seppo_loss(row, anchor_sign(row), beta=10)
    # first item: σ_w = -1, σ_r = 1, s = +1, margin 2; second: σ_w = 1, σ_r = 1, s = -1, margin -2
    expected = {
        "winner_error": 2.0,
        "sample_error": 3.0,
        "winner_gap": 0.0,
        "sample_gap": 1.0,
        "margin": 0.0,
        "implicit_accuracy": 0.5,
        "share_s_plus": 0.5,
        "share_s_minus": 0.5,
        "share_s_zero": 0.0,
        "gap_size": 1.0,
    }
    assert {name: value.item() for name, value in metrics.items()} == expected


def test_sft_is_the_mean_winner_error():
    loss, metrics = sft_loss(torch.tensor([1.0, 3.0]))
    assert loss.item() == metrics["winner_error"].item() == 2.0


numbers = st.lists(st.floats(0, 10, width=32), min_size=4, max_size=4)


@given(st.lists(numbers, min_size=1, max_size=8), st.sampled_from(["sign", "indicator", "off"]), st.randoms())
def test_permuting_the_batch_changes_nothing(rows, flipper, random):
    def evaluate(rows):
        row = Errors(*torch.tensor(rows, dtype=torch.float64).T)
        sign = anchor_sign(row, flipper)
        loss, metrics = seppo_loss(row, sign, beta=0.5)
        return sign, torch.stack([loss, *(value.double() for value in metrics.values())])

    order = list(range(len(rows)))
    random.shuffle(order)
    sign, values = evaluate(rows)
    permuted_sign, permuted_values = evaluate([rows[i] for i in order])
    assert torch.equal(permuted_sign, sign[order])
    torch.testing.assert_close(permuted_values, values, rtol=1e-6, atol=1e-7)


@given(numbers)
def test_sign_squares_to_one_for_sign_and_off(row):
    for flipper in ("sign", "off"):
        assert anchor_sign(errors(*row), flipper).square().item() == 1
    assert anchor_sign(errors(*row), "indicator").item() == max(0.0, anchor_sign(errors(*row), "sign").item())
