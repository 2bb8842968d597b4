"""DiffusionNFT against its formula in terms of predictions and x_0, in float64, on every kind of path."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from seppo_core.config.methods.nft import NftConfig
from seppo_core.methods.nft import Nft
from seppo_core.methods.reference import Reference
from seppo_core.methods.reference_pool import ReferencePool
from seppo_core.methods.step import Batch
from seppo_core.models.noise_path import DiffusionNoisePath, FlowNoisePath
from seppo_core.training.judged import Judged

SHAPE = (5, 3, 4, 4)
ALPHAS = torch.linspace(0.98, 0.05, 1000, dtype=torch.float64)


def normal(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Fixed(nn.Module):
    """Predicts the same whatever it is given."""

    def __init__(self, prediction: torch.Tensor):
        super().__init__()
        self.prediction = nn.Parameter(prediction)


class Adapter:
    def predict(self, denoiser, x_t, t, condition):
        return denoiser.prediction


class Old(Reference):
    def _load(self, state):
        pass

    @contextmanager
    def active(self):
        with torch.no_grad():
            yield self.denoiser


PATHS = {
    "flow": FlowNoisePath(),
    "epsilon": DiffusionNoisePath(ALPHAS, "epsilon"),
    "v_prediction": DiffusionNoisePath(ALPHAS, "v_prediction"),
    "sample": DiffusionNoisePath(ALPHAS, "sample"),
}


def by_hand(kind: str, t, x_0, noise, policy, old, reward, beta: float, normalise: bool) -> torch.Tensor:
    """The loss from what each implicit policy predicts, item by item."""
    total = 0.0
    for b in range(len(t)):
        sigma = t[b].double() / 1000 if kind == "flow" else (1 - ALPHAS[t[b].long()]).sqrt()
        alpha = 1 - sigma if kind == "flow" else ALPHAS[t[b].long()].sqrt()
        x_t = alpha * x_0[b] + sigma * noise[b]
        target = {
            "flow": noise[b] - x_0[b], "epsilon": noise[b], "v_prediction": alpha * noise[b] - sigma * x_0[b],
            "sample": x_0[b],
        }[kind]  # fmt: skip
        branches = []
        for prediction in (beta * policy[b] + (1 - beta) * old[b], (1 + beta) * old[b] - beta * policy[b]):
            if not normalise:
                branches.append((prediction - target).square().mean())
                continue
            clean = {
                "flow": x_t - sigma * prediction, "epsilon": (x_t - sigma * prediction) / alpha,
                "v_prediction": alpha * x_t - sigma * prediction, "sample": prediction,
            }[kind]  # fmt: skip
            size = (clean - x_0[b]).abs().mean().detach().clamp(min=1e-5)
            branches.append(((clean - x_0[b]) ** 2 / size).mean())
        total = total + reward[b] * branches[0] / beta + (1 - reward[b]) * branches[1] / beta
    return total / len(t)


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize(("beta", "normalise"), [(1.0, True), (0.1, True), (0.4, False)])
def test_loss_and_gradient_are_the_formula_s(kind, beta, normalise):
    path, reward = PATHS[kind], torch.tensor([0.0, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    t = path.timesteps(torch.tensor([0.02, 0.3, 0.5, 0.8, 0.97], dtype=torch.float64))
    x_0, noise, old = normal(0), normal(1), normal(3)
    batch = Batch(x0=x_0, condition={}, t=t, noise=noise, noise_path=path, reward=reward)
    policy = Fixed(normal(2))
    method = Nft(beta=beta, normalise=normalise)
    loss, metrics = method.loss(Adapter(), policy, Old(Fixed(old)), batch)
    expected_of = normal(2).requires_grad_()
    expected = by_hand(kind, t, x_0, noise, expected_of, old, reward, beta, normalise)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)
    (gradient,) = torch.autograd.grad(loss, policy.prediction)
    (wanted,) = torch.autograd.grad(expected, expected_of)
    torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-12)
    assert metrics["drift"].item() == pytest.approx((normal(2) - old).square().mean().item())
    # at the old policy a sample as good as the others' mean moves nothing, a better one is approached, a worse one left
    at_old = Fixed(old.clone())
    loss, _ = method.loss(Adapter(), at_old, Old(Fixed(old)), batch)
    (gradient,) = torch.autograd.grad(loss, at_old.prediction)
    towards = ((old - path.target(x_0, noise, t)) * gradient).flatten(1).sum(1)
    assert towards[2].abs() < 1e-12 and (towards[:2] < 0).all() and (towards[3:] > 0).all()


def test_it_names_what_it_lacks():
    batch = Batch(x0=normal(0), condition={}, t=torch.full((5,), 500.0), noise=normal(1), noise_path=FlowNoisePath())
    with pytest.raises(ValueError, match=r"Nft needs reward in the batch; give Batch.of reward=rewards"):
        Nft().loss(Adapter(), Fixed(normal(2)), Old(Fixed(normal(3))), batch)
    with pytest.raises(ValueError, match=r"method.min_snr_gamma=5.0 weights errors that method.normalise=true"):
        NftConfig(min_snr_gamma=5.0)


def test_rewards_compare_with_the_caption_s_own_scores():
    nan = float("nan")
    scores = torch.tensor([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, nan]], dtype=torch.float64)
    judged = Judged(replace_start(8), scores, first=8)
    spread = torch.tensor([1.0, 2.0, 3.0, 6.0]).std(correction=0).item()
    expected = [0.5 + 0.5 * max(-1, min(1, (s - 3) / (1.2 * spread))) for s in (1, 2, 3, 6)]
    assert expected[-1] == 1 and judged.rewards([8, 9, 10, 11], 1.2).tolist() == pytest.approx(expected)
    assert judged.rewards([12, 13, 15], 1.2).tolist() == [0.5, 0.5, 0.5]


def replace_start(start: int):
    return type("Buffer", (), {"start": start})()


def test_the_pool_s_entries_are_the_moving_average(tmp_path):
    rate = NftConfig(old_decay=0.3, old_decay_rise=0.2)
    assert [rate.snapshot_decay(i) for i in range(4)] == [0, 0.2, 0.3, 0.3]
    pool = ReferencePool(tmp_path, "latest", judged=True, decay=rate.snapshot_decay)
    policies = [torch.full((2,), value) for value in (1.0, 2.0, 4.0)]
    for iteration, policy in enumerate(policies):
        pool.save(iteration, {"w": policy})
    old = 0.3 * (0.2 * 1 + 0.8 * 2) + 0.7 * 4
    torch.testing.assert_close(pool.load(2)["w"], torch.full((2,), old))
    # a restart saves the same again
    pool.path(2).unlink()
    pool.save(2, {"w": policies[2]})
    torch.testing.assert_close(pool.load(2)["w"], torch.full((2,), old))
    # what a run at an iteration's edge still needs, and inside it
    assert pool.needed(4, 2, 3) == [1] and pool.needed(3, 2, 3) == [0, 1]
    assert replace(rate, old_decay=0.0).snapshot_decay(9) == 0
