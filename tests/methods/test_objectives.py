"""Methods on a real adapter: what decides the sign, what is drawn for it, what each leaves alone."""

from dataclasses import replace
from functools import partial
from math import log

import pytest
import torch

from seppo_core.methods.contrastive import seppo_loss
from seppo_core.methods.dpo import Dpo
from seppo_core.methods.kto import Kto, LabelledErrors, kto_loss
from seppo_core.methods.mapo import Mapo
from seppo_core.methods.reference import FrozenCopy
from seppo_core.methods.seppo import Seppo
from seppo_core.methods.sft import Sft
from seppo_core.methods.step import Batch, denoise, item_errors, pair_errors
from seppo_core.models.tuning import load_trainable_state, trainable_parameters, trainable_state, tune_full
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny

SIZE = 6


@pytest.fixture
def adapter(tmp_path):
    adapter = StableDiffusion(tiny.stable_diffusion(tmp_path))
    adapter.denoiser.eval()
    tune_full(adapter.denoiser)
    return adapter


@pytest.fixture
def reference(adapter):
    """As far from the start as the policy, in another direction: each is better on some winners."""
    reference = FrozenCopy(adapter.denoiser)
    state = trainable_state(adapter.denoiser)
    reference.load({name: value + 0.01 * normal(*value.shape, seed=50) for name, value in state.items()})
    load_trainable_state(
        adapter.denoiser, {name: value + 0.01 * normal(*value.shape, seed=51) for name, value in state.items()}
    )
    return reference


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch_of(adapter, draws: int = 0) -> Batch:
    shape = (SIZE, 4, 8, 8)
    t = torch.randint(0, 1000, (SIZE,), generator=torch.Generator().manual_seed(9))
    return Batch(
        x0=normal(*shape, seed=0), condition=adapter.encode_prompts(["a red house", "two cats"] * 3), t=t,
        noise=normal(*shape, seed=1), noise_path=adapter.path,
        counterpart=normal(*shape, seed=2), counterpart_noise=normal(*shape, seed=3),
        desirable=torch.arange(SIZE) % 3 == 0,
        anchor_t=torch.randint(0, 1000, (draws, SIZE), generator=torch.Generator().manual_seed(8)),
        anchor_noise=normal(draws, *shape, seed=4),
    )  # fmt: skip


def test_the_averaged_anchor_is_the_mean_over_its_draws(adapter, reference):
    draws = 4
    batch = batch_of(adapter, draws)
    gaps = torch.zeros(SIZE, dtype=torch.float64)
    with torch.no_grad():
        for item in range(SIZE):
            condition = {key: value[item : item + 1] for key, value in batch.condition.items()}
            for draw in range(draws):
                one = (batch.noise_path, batch.x0[item : item + 1], batch.anchor_noise[draw, item : item + 1])
                t = batch.anchor_t[draw, item : item + 1]
                policy, held = (
                    denoise(adapter, model, *one, t, condition).errors.item()
                    for model in (adapter.denoiser, reference.module)
                )
                gaps[item] += (policy - held) / draws
    assert 0 < (gaps < 0).sum() < SIZE
    expected = torch.where(gaps < 0, 1.0, -1.0)
    errors = pair_errors(adapter, adapter.denoiser, reference, batch)
    loss, metrics = Seppo(beta=50.0, anchor_draws=draws).loss(adapter, adapter.denoiser, reference, batch, {})
    assert loss == seppo_loss(errors, expected, beta=50.0)[0]
    assert metrics["share_s_plus"].item() == pytest.approx((expected > 0).float().mean().item())
    # and it is not what the loss's own draw says
    assert loss != Seppo(beta=50.0).loss(adapter, adapter.denoiser, reference, batch, {})[0]


def test_the_averaged_anchor_ties_at_equal_weights(adapter, reference):
    reference.load(trainable_state(adapter.denoiser))
    loss, metrics = Seppo(beta=2000.0, anchor_draws=2).loss(
        adapter, adapter.denoiser, reference, batch_of(adapter, 2), {}
    )
    assert loss.item() == pytest.approx(log(2), abs=1e-7)
    assert metrics["share_s_minus"] == 1


def test_a_method_on_one_s_own_batch_is_the_paper_s_formula(adapter, reference):
    latents, samples = normal(4, 4, 8, 8, seed=20), normal(4, 4, 8, 8, seed=21)
    condition = adapter.encode_prompts(["a red house", "two cats", "a boat", "rain"])
    batch = Batch.of(latents, condition, adapter.path, counterpart=samples, generator=torch.Generator().manual_seed(3))
    loss, _ = Seppo(beta=40.0).loss(adapter, adapter.denoiser, reference, batch)

    def error(denoiser, x_0, noise):
        x_t = adapter.path.add_noise(x_0, noise, batch.t)
        return (adapter.predict(denoiser, x_t, batch.t, condition) - noise).square().mean(dim=(1, 2, 3))

    with torch.no_grad():
        gaps = [
            error(adapter.denoiser, x_0, noise) - error(reference.module, x_0, noise)
            for x_0, noise in ((latents, batch.noise), (samples, batch.counterpart_noise))
        ]
    sign = torch.where(gaps[0] < 0, 1.0, -1.0)
    assert len(set(sign.tolist())) == 2
    expected = -torch.log(torch.sigmoid(-40.0 * (gaps[0] - sign * gaps[1]))).mean()
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [Seppo(beta=20.0), Dpo(beta=20.0, guard=0.1, noise="shared"), Kto(beta=20.0)])
def test_drift_is_how_far_policy_and_reference_predict_apart(adapter, reference, method):
    batch = batch_of(adapter)
    metrics = method.loss(adapter, adapter.denoiser, reference, batch)[1]
    x_t = adapter.path.add_noise(batch.x0, batch.noise, batch.t)
    with torch.no_grad():
        own, held = (
            adapter.predict(one, x_t, batch.t, batch.condition) for one in (adapter.denoiser, reference.module)
        )
    assert metrics["drift"].item() == pytest.approx((own - held).double().square().mean().item(), rel=1e-4)
    assert not metrics["drift"].requires_grad


def test_a_batch_draws_what_it_is_not_given(adapter):
    latents, condition = normal(2, 4, 8, 8, seed=1), adapter.encode_prompts(["a", "b"])
    make = lambda **given: Batch.of(  # noqa: E731
        latents, condition, adapter.path, anchor_draws=3, generator=torch.Generator().manual_seed(5), **given
    )
    first, again = make(), make()
    assert torch.equal(first.t, again.t) and torch.equal(first.noise, again.noise)
    assert first.counterpart_noise is None
    assert first.anchor_t.shape == (3, 2) and first.anchor_noise.shape == (3, 2, 4, 8, 8)
    given = make(t=torch.tensor([7, 8]), noise=latents, counterpart=latents)
    assert given.t.tolist() == [7, 8] and given.noise is latents
    assert not torch.equal(given.counterpart_noise, given.noise)


def test_a_method_names_what_it_lacks(adapter, reference):
    method, batch = Seppo(beta=5, anchor_draws=2), batch_of(adapter, 2)
    for given, expected in [
        ((reference, replace(batch, counterpart=None)), "counterpart=samples"),
        ((reference, replace(batch, anchor_t=None)), "anchor_draws=2"),
        ((None, batch), r"reference=NoneType.*make_reference"),
        ((adapter.denoiser, batch), r"reference=UNet2DConditionModel.*make_reference"),
        ((reference, replace(batch, condition=adapter.encode_prompts(["one"]))), f"{SIZE} items.*'text': 1"),
    ]:
        with pytest.raises(ValueError, match=expected):
            method.loss(adapter, adapter.denoiser, *given)
    with pytest.raises(ValueError, match="desirable=labels"):
        Kto().loss(adapter, adapter.denoiser, reference, replace(batch, desirable=None))


@pytest.mark.parametrize("method", [Kto(beta=20.0), Seppo(beta=20.0, anchor_scope="batch")])
def test_a_method_observes_its_own_batch_unless_it_is_told(adapter, reference, method):
    batch = batch_of(adapter)
    observed = method.observe(adapter, adapter.denoiser, reference, batch)
    told, alone = (method.loss(adapter, adapter.denoiser, reference, batch, *given)[0] for given in ((observed,), ()))
    assert told == alone


def ulps(value: torch.Tensor, count: int) -> torch.Tensor:
    for _ in range(count):
        value = torch.nextafter(value, torch.zeros_like(value) + torch.inf)
    return value


@pytest.mark.parametrize("moved", [lambda e: ulps(e, 4), lambda e: e * (1 - 1e-3), lambda e: e * (1 + 1e-3)])
@pytest.mark.parametrize(
    ("method", "at_tie"),
    [
        (Seppo(beta=2000.0), log(2)),
        (Seppo(beta=2000.0, anchor_draws=2), log(2)),
        (Seppo(beta=2000.0, anchor_scope="batch"), log(2)),
        (Seppo(beta=2000.0, flipper="indicator"), log(2)),
        (Dpo(beta=2000.0), log(2)),
        (Kto(beta=2000.0), 0.5),
    ],
)
def test_equal_weights_tie_whatever_the_reference_s_kernels_round_to(
    adapter, reference, monkeypatch, method, at_tie, moved
):
    optimizer = torch.optim.SGD(trainable_parameters(adapter.denoiser).values(), lr=0.1)
    reference.track(optimizer)
    reference.load(trainable_state(adapter.denoiser))
    predict, batch = adapter.predict, batch_of(adapter, 2)
    x_t = []

    def other_kernels(denoiser, *args):
        prediction = predict(denoiser, *args)
        if denoiser is not reference.module:
            return prediction
        x_t.append(args[0])
        return moved(prediction)

    monkeypatch.setattr(adapter, "predict", other_kernels)

    def watched():
        observed = method.observe(adapter, adapter.denoiser, reference, batch)
        return method.loss(adapter, adapter.denoiser, reference, batch, observed)

    loss, metrics = watched()
    assert x_t
    assert loss.item() == pytest.approx(at_tie, abs=1e-7)
    assert metrics["gap_size"] == metrics["margin"] == 0
    if isinstance(method, Seppo):
        assert metrics["share_s_plus"] == 0
    # gradients that are not finite, or a learning rate of 0: nothing has changed
    loss.backward()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert watched()[1]["gap_size"] == 0
    optimizer.param_groups[0]["lr"] = 1e-3
    optimizer.step()
    assert watched()[1]["gap_size"] > 0


def test_equality_is_known_of_a_tracked_policy_alone(adapter, reference):
    state = trainable_state(adapter.denoiser)
    reference.load(state)
    assert not reference.equals_policy
    reference.track(torch.optim.SGD(trainable_parameters(adapter.denoiser).values(), lr=0.1))
    reference.load(state)
    assert reference.equals_policy
    name = next(iter(state))
    reference.load(state | {name: ulps(state[name], 1)})
    assert not reference.equals_policy


def test_a_policy_that_does_not_repeat_itself_is_told_of(adapter, reference):
    reference.track(torch.optim.SGD(trainable_parameters(adapter.denoiser).values(), lr=0.1))
    reference.load(trainable_state(adapter.denoiser))
    with torch.no_grad():
        next(reference.module.parameters()).add_(0.3)
    with pytest.warns(UserWarning, match="same weights but their errors differ"):
        Seppo(beta=50.0).loss(adapter, adapter.denoiser, reference, batch_of(adapter), {})


@pytest.mark.parametrize("draws", [0, 3])
def test_one_sign_for_the_batch(adapter, reference, draws):
    batch = batch_of(adapter, draws)
    method = Seppo(beta=50.0, anchor_draws=draws, anchor_scope="batch")
    assert method.observes
    observed = method.observe(adapter, adapter.denoiser, reference, batch)
    if not draws:
        with torch.no_grad():
            gap = item_errors(adapter, adapter.denoiser, batch) - item_errors(adapter, reference.module, batch)
        torch.testing.assert_close(observed["anchor_gap"], gap.mean())
    assert not observed["anchor_gap"].requires_grad
    for gap, share in [(-1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]:
        seen = {"anchor_gap": torch.tensor(gap)}
        _, metrics = method.loss(adapter, adapter.denoiser, reference, batch, seen)
        assert metrics["share_s_plus"] == share
        assert metrics["share_s_minus"] == 1 - share


def test_what_decides_no_sign_is_refused():
    with pytest.raises(ValueError, match=r"method\.flipper=off"):
        Seppo(beta=50.0, flipper="off", anchor_scope="batch")


def test_dpo_is_the_anchor_off(adapter, reference):
    batch = batch_of(adapter)
    losses = [
        method.loss(adapter, adapter.denoiser, reference, batch, {})[0]
        for method in (Dpo(beta=50.0), Seppo(beta=50.0, flipper="off"))
    ]
    assert losses[0] == losses[1]


def test_the_sft_weight_adds_the_winners_error(adapter, reference):
    batch = batch_of(adapter)
    plain, metrics = Seppo(beta=50.0).loss(adapter, adapter.denoiser, reference, batch, {})
    mixed, watched = Seppo(beta=50.0, sft_weight=0.5).loss(adapter, adapter.denoiser, reference, batch, {})
    assert mixed.item() == pytest.approx(plain.item() + 0.5 * metrics["winner_error"].item(), rel=1e-6)
    assert watched["preference_loss"] == plain


@pytest.mark.parametrize(
    ("kind", "loud"),
    # MaPO pushes the harder, the smaller the loser's error is; where it is the larger one, T = 1000 stops all pushing
    [(partial(Dpo, beta=50.0), (1.0, 1.5)), (partial(Mapo, beta=0.5), (3.0, 2.7))],
    ids=["dpo", "mapo"],
)
def test_a_guarded_step_does_not_raise_the_winner_s_error(adapter, reference, kind, loud):
    """The slope of the winner's error along the loss's gradient, in output space, the loser's pull being stronger."""
    batch = batch_of(adapter)
    # the same picture under the same noise, only more or less of it: residuals that point alike
    noise, counterpart_noise = (scale * batch.noise for scale in loud)
    batch = replace(batch, counterpart=batch.x0, noise=noise, counterpart_noise=counterpart_noise)
    outputs = []
    predict = adapter.predict

    def watched(denoiser, *args):
        prediction = predict(denoiser, *args)
        if torch.is_grad_enabled():
            prediction.retain_grad()
            outputs.append(prediction)
        return prediction

    adapter.predict = watched
    slopes = []
    for guard in (None, 0.0, 0.5):
        loss, metrics = kind(guard=guard).loss(adapter, adapter.denoiser, reference, batch, {})
        loss.backward()
        prediction = outputs[-1]
        residual = (prediction - torch.cat([batch.noise, batch.counterpart_noise])).detach()
        towards_winner, pull = residual.flatten(1).chunk(2)[0], prediction.grad.flatten(1).chunk(2)
        slopes.append((towards_winner * (pull[0] + pull[1])).sum(1))
    assert (slopes[0] < 0).all()
    # it stands still, up to rounding
    assert (slopes[1].abs() < 1e-4 * slopes[0].abs()).all()
    assert (slopes[2] > 0).all()
    assert 0 < metrics["guard_scale"] < 1


def test_kto_is_its_loss_of_both_errors(adapter, reference):
    batch = batch_of(adapter)
    method = Kto(beta=20.0, kto_weights=(1.0, 2.0))
    observed = method.observe(adapter, adapter.denoiser, reference, batch)
    with torch.no_grad():
        policy, held = (item_errors(adapter, model, batch) for model in (adapter.denoiser, reference.module))
    torch.testing.assert_close(observed["gain"], (held - policy).mean())
    loss, _ = method.loss(adapter, adapter.denoiser, reference, batch, observed)
    expected, _ = kto_loss(
        LabelledErrors(policy, held, batch.desirable), beta=20.0, baseline=observed["gain"], weights=(1.0, 2.0)
    )
    assert loss == expected


@pytest.mark.parametrize("method", [Mapo(beta=0.1), Sft()])
def test_no_reference_is_looked_at(adapter, method):
    assert not method.spec.uses_reference
    loss, _ = method.loss(adapter, adapter.denoiser, None, batch_of(adapter), {})
    loss.backward()
    assert all(parameter.grad is not None for parameter in trainable_parameters(adapter.denoiser).values())


def test_a_loser_is_told_its_own_condition(adapter, reference):
    batch = batch_of(adapter)
    other = {key: value.flip(0) for key, value in batch.condition.items()}
    errors = pair_errors(adapter, adapter.denoiser, reference, replace(batch, counterpart_condition=other))
    plain = pair_errors(adapter, adapter.denoiser, reference, batch)
    assert torch.equal(errors.policy_winner, plain.policy_winner)
    assert not torch.equal(errors.policy_sample, plain.policy_sample)
