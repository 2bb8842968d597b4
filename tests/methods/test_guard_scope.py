"""One scale of the guard for the whole batch, however it is cut; and metrics of what no anchor decides."""

from dataclasses import replace

import pytest
import torch

from seppo_core.config.methods.dpo import DpoConfig
from seppo_core.methods.dpo import Dpo
from seppo_core.methods.errors import Errors
from seppo_core.methods.mapo import Mapo, mapo_push
from seppo_core.methods.reference import FrozenCopy
from seppo_core.methods.sspo import sspo_loss
from seppo_core.methods.step import pair_pass
from seppo_core.models.tuning import trainable_state, tune_full
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny
from tests.methods.test_objectives import SIZE, batch_of


@pytest.mark.parametrize(
    "method", [Dpo(beta=50.0, guard=0.4, guard_scope="batch"), Mapo(beta=0.5, guard=0.4, guard_scope="batch")]
)
def test_one_scale_for_the_batch_whatever_its_parts(tmp_path, method):
    adapter = StableDiffusion(tiny.stable_diffusion(tmp_path))
    adapter.denoiser.eval()
    tune_full(adapter.denoiser)
    reference = FrozenCopy(adapter.denoiser)
    reference.load(trainable_state(adapter.denoiser))
    batch = batch_of(adapter)
    # the losers are the winners under nearly the same noise, so that the guard has something to hold back
    loud = batch.noise + 0.2 * batch.counterpart_noise
    batch = replace(batch, counterpart=batch.x0, noise=3 * batch.noise, counterpart_noise=2.7 * loud)
    with torch.no_grad():
        winner, loser = pair_pass(adapter, adapter.denoiser, batch)
        push = mapo_push(winner.errors, loser.errors, beta=0.5) if isinstance(method, Mapo) else torch.ones(SIZE)
        inner = sum(float(push[i] * (loser.residuals[i] * winner.residuals[i]).sum()) for i in range(SIZE))
        expected = min(1.0, 0.6 * float(winner.residuals.square().sum()) / inner)
    assert 0 < expected < 1
    parts = [_part(batch, slice(0, 2)), _part(batch, slice(2, 4)), _part(batch, slice(4, 6))]
    seen = [method.observe(adapter, adapter.denoiser, reference, part) for part in parts]
    observed = {name: sum(one[name] for one in seen) / 3 for name in seen[0]}
    for part in parts:
        _, metrics = method.loss(adapter, adapter.denoiser, reference, part, observed)
        assert metrics["guard_scale"].item() == pytest.approx(expected, rel=1e-4)
    assert "share_s_plus" not in metrics


def _part(batch, rows: slice):
    names = ("x0", "t", "noise", "counterpart", "counterpart_noise")
    condition = {key: value[rows] for key, value in batch.condition.items()}
    return replace(batch, condition=condition, **{name: getattr(batch, name)[rows] for name in names})


def test_a_guard_that_independent_noises_leave_idle_is_told_of():
    assert "set method.noise=shared" in DpoConfig(guard=0.5).advice()
    assert DpoConfig(guard=0.5, noise="shared").advice() is DpoConfig().advice() is None


def test_the_margin_of_sspo_is_that_of_its_dpo_term():
    """Where s = −1 the loss is SFT's; the margin, winners against samples, is DPO's all the same."""
    column = torch.tensor
    errors = Errors(column([1.0, 3.0]), column([2.0, 1.0]), column([2.0, 2.0]), column([1.0, 2.0]))
    _, metrics = sspo_loss(errors, column([1.0, -1.0]), beta=2.0)
    # winner gaps −1 and 1, sample gaps 1 and −1: margins 2 and −2
    assert metrics["margin"] == 0 and metrics["implicit_accuracy"] == 0.5 and metrics["share_s_plus"] == 0.5
