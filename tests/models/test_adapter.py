"""The parts of the adapter's interface that need no family."""

import torch

from seppo_core.models.adapter import Posterior


def test_posterior_draws():
    mean, logvar = torch.full((1, 2), 3.0), torch.full((1, 2), 2 * torch.log(torch.tensor(0.5)).item())
    posterior = Posterior(mean, logvar)
    assert torch.equal(posterior.sample(torch.zeros(1, 2)), mean)
    torch.testing.assert_close(posterior.sample(torch.tensor([[2.0, -4.0]])), torch.tensor([[4.0, 1.0]]))
