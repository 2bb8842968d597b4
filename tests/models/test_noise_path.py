"""The noising processes against closed forms in float64, diffusers' schedulers, and their own inverses."""

import math

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from seppo_core.models.noise_path import DiffusionNoisePath, FlowNoisePath

PREDICTIONS = ["epsilon", "v_prediction", "sample"]
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALL_T = torch.arange(1000)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def diffusion(prediction: str = "epsilon", zero_snr: bool = False, gamma: float | None = None) -> DiffusionNoisePath:
    scheduler = DDIMScheduler(**STABLE_DIFFUSION, prediction_type=prediction, rescale_betas_zero_snr=zero_snr)
    return DiffusionNoisePath.from_scheduler(scheduler, gamma)


def betas(schedule: str) -> torch.Tensor:
    """The schedules as their papers write them, float64."""
    if schedule == "linear":
        return torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = torch.cos((torch.arange(1001, dtype=torch.float64) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_coefficients_have_the_schedule_s_closed_form(schedule):
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=schedule)
    alpha, sigma = DiffusionNoisePath.from_scheduler(scheduler).coefficients(ALL_T)
    expected = torch.cumprod(1 - betas(schedule), 0)
    # the scheduler multiplies a thousand float32 factors
    torch.testing.assert_close(alpha**2, expected, rtol=2e-4, atol=1e-9)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1000, dtype=torch.float64), rtol=0, atol=1e-15)


def test_float64_schedules_keep_their_digits():
    scheduler = CogVideoXDDIMScheduler()
    assert scheduler.alphas_cumprod.dtype == torch.float64
    path = DiffusionNoisePath.from_scheduler(scheduler)
    assert torch.equal(path.alphas_cumprod, scheduler.alphas_cumprod)
    assert path.prediction == scheduler.config.prediction_type


@pytest.mark.parametrize("zero_snr", [False, True])
def test_noise_and_targets_are_those_of_diffusers(zero_snr):
    scheduler = DDPMScheduler(**STABLE_DIFFUSION, prediction_type="v_prediction", rescale_betas_zero_snr=zero_snr)
    path = DiffusionNoisePath.from_scheduler(scheduler)
    t = torch.tensor([0, 1, 500, 998, 999])
    x_0, noise = normal(5, 4, 8, 8, dtype=torch.float32), normal(5, 4, 8, 8, seed=1, dtype=torch.float32)
    torch.testing.assert_close(path.add_noise(x_0, noise, t), scheduler.add_noise(x_0, noise, t))
    torch.testing.assert_close(path.target(x_0, noise, t), scheduler.get_velocity(x_0, noise, t))
    assert diffusion("epsilon").target(x_0, noise, t) is noise
    assert diffusion("sample").target(x_0, noise, t) is x_0


def test_flow_noise_is_that_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    x_0, noise = normal(4, 4, 8, 8, dtype=torch.float32), normal(4, 4, 8, 8, seed=1, dtype=torch.float32)
    t = scheduler.timesteps[[0, 10, 500, 999]]
    torch.testing.assert_close(FlowNoisePath().add_noise(x_0, noise, t), scheduler.scale_noise(x_0, t, noise))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 4, 8, 8), torch.float32), ((3, 4, 5, 8, 8), torch.bfloat16), ((3, 2), torch.float64)]
)
@pytest.mark.parametrize("path", [diffusion("v_prediction"), FlowNoisePath()], ids=["diffusion", "flow"])
def test_shape_and_dtype_are_those_of_x_0(path, shape, dtype):
    x_0, noise = normal(*shape, dtype=dtype), normal(*shape, seed=1, dtype=dtype)
    t = path.timesteps(torch.tensor([0.0, 0.5, 0.999]))
    x_t, target = path.add_noise(x_0, noise, t), path.target(x_0, noise, t)
    assert (x_t.shape, x_t.dtype) == (x_0.shape, dtype)
    assert (target.shape, target.dtype) == (x_0.shape, dtype)
    assert path.recover(x_t, target, t).dtype == dtype


@given(
    u=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    prediction=st.sampled_from(PREDICTIONS),
    seed=st.integers(0, 2**31),
)
def test_diffusion_round_trip(u, prediction, seed):
    path = diffusion(prediction)
    t = path.timesteps(torch.tensor(u, dtype=torch.float64))
    x_0, noise = normal(len(u), 2, 3, seed=seed), normal(len(u), 2, 3, seed=seed + 1)
    recovered = path.recover(path.add_noise(x_0, noise, t), path.target(x_0, noise, t), t)
    torch.testing.assert_close(recovered, x_0, rtol=1e-9, atol=1e-9)


@given(
    u=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    density=st.sampled_from(["uniform", "logit_normal"]),
    shift=st.floats(0.1, 10),
    seed=st.integers(0, 2**31),
)
def test_flow_round_trip(u, density, shift, seed):
    path = FlowNoisePath(density=density, shift=shift)
    t = path.timesteps(torch.tensor(u, dtype=torch.float64))
    assert ((t >= 0) & (t <= 1000)).all()
    x_0, noise = normal(len(u), 2, 3, seed=seed), normal(len(u), 2, 3, seed=seed + 1)
    x_t, target = path.add_noise(x_0, noise, t), path.target(x_0, noise, t)
    torch.testing.assert_close(path.recover(x_t, target, t), x_0, rtol=1e-9, atol=1e-9)
    # the other end of the straight line: going on by 1 − σ reaches the noise
    sigma = (t.double() / 1000).view(-1, 1, 1)
    torch.testing.assert_close(x_t + (1 - sigma) * target, noise, rtol=1e-9, atol=1e-9)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=6), st.permutations(range(6)))
def test_items_of_a_batch_do_not_touch_each_other(u, order):
    order = [index for index in order if index < len(u)]
    path = diffusion("v_prediction", gamma=5.0)
    t = path.timesteps(torch.tensor(u, dtype=torch.float64))
    x_0, noise = normal(len(u), 3), normal(len(u), 3, seed=1)
    for whole, part in [
        (path.add_noise(x_0, noise, t), path.add_noise(x_0[order], noise[order], t[order])),
        (path.target(x_0, noise, t), path.target(x_0[order], noise[order], t[order])),
        (path.weight(t), path.weight(t[order])),
    ]:
        assert torch.equal(whole[order], part)


def test_uniforms_reach_every_timestep_and_no_other():
    path = diffusion()
    t = path.timesteps((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    assert t.dtype == torch.int64
    assert torch.equal(t, ALL_T)
    nearly_one = torch.tensor([1 - 2**-24, 0.0], dtype=torch.float32)
    assert path.timesteps(nearly_one).tolist() == [999, 0]


def test_zero_terminal_snr_divides_by_nothing():
    for prediction in PREDICTIONS:
        for gamma in (None, 5.0):
            path = diffusion(prediction, zero_snr=True, gamma=gamma)
            alpha, sigma = path.coefficients(ALL_T)
            assert (alpha[-1], sigma[-1]) == (0, 1)
            assert path.weight(ALL_T).isfinite().all()
            x_0, noise = normal(1000, 2), normal(1000, 2, seed=1)
            x_t, target = path.add_noise(x_0, noise, ALL_T), path.target(x_0, noise, ALL_T)
            assert torch.equal(x_t[-1], noise[-1])
            recovered = path.recover(x_t, target, ALL_T)
            assert recovered.isfinite().all()
            torch.testing.assert_close(recovered[:-1], x_0[:-1])
    # of pure noise, ε tells nothing and v everything
    assert torch.equal(diffusion("epsilon", zero_snr=True).recover(x_t, noise, ALL_T)[-1], torch.zeros(2).double())
    v = diffusion("v_prediction", zero_snr=True)
    assert torch.equal(v.recover(x_t, v.target(x_0, noise, ALL_T), ALL_T)[-1], x_0[-1])


@pytest.mark.parametrize(
    ("prediction", "of_snr", "at_zero"),
    [
        ("epsilon", lambda snr: torch.clamp(snr, max=5) / snr, 1),
        ("v_prediction", lambda snr: torch.clamp(snr, max=5) / (snr + 1), 0),
        ("sample", lambda snr: torch.clamp(snr, max=5), 0),
    ],
)
def test_min_snr_weights(prediction, of_snr, at_zero):
    path = diffusion(prediction, gamma=5.0)
    snr = path.alphas_cumprod / (1 - path.alphas_cumprod)
    torch.testing.assert_close(path.weight(ALL_T), of_snr(snr).float())
    assert diffusion(prediction, zero_snr=True, gamma=5.0).weight(ALL_T)[-1] == at_zero


def test_min_snr_weighs_the_three_predictions_alike():
    """One wrong x_0, told as ε, as v or as x_0: the weighted errors are the same min(SNR, γ) ‖x_0 − x̂_0‖²."""
    t = torch.tensor([3, 100, 500, 900])
    x_0, noise, wrong = (normal(4, 6, seed=seed) for seed in range(3))
    weighted = {}
    for prediction in PREDICTIONS:
        path = diffusion(prediction, gamma=5.0)
        alpha, sigma = (coefficient[:, None] for coefficient in path.coefficients(t))
        implied_noise = (path.add_noise(x_0, noise, t) - alpha * wrong) / sigma
        error = path.target(wrong, implied_noise, t) - path.target(x_0, noise, t)
        weighted[prediction] = path.weight(t) * error.square().mean(1)
    # weights are float32
    torch.testing.assert_close(weighted["epsilon"], weighted["sample"], rtol=1e-6, atol=0)
    torch.testing.assert_close(weighted["v_prediction"], weighted["sample"], rtol=1e-6, atol=0)


def test_without_gamma_weights_are_ones():
    assert torch.equal(diffusion().weight(ALL_T), torch.ones(1000))
    assert torch.equal(FlowNoisePath().weight(torch.tensor([0.0, 1000.0])), torch.ones(2))


def test_flow_densities():
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert kstest(FlowNoisePath().timesteps(u) / 1000, "uniform").pvalue > 0.01
    sigma = FlowNoisePath(density="logit_normal", mean=0.5, std=2.0).timesteps(u).double() / 1000
    assert kstest(torch.logit(sigma), "norm", args=(0.5, 2.0)).pvalue > 0.01
    # the shift by hand: at s = 3, σ = ½ moves to 3·½ / (1 + 2·½) = ¾
    assert FlowNoisePath(shift=3.0).timesteps(torch.tensor([0.5])).item() == 750


def test_shift_is_that_of_diffusers():
    plain, shifted = FlowMatchEulerDiscreteScheduler(shift=1.0), FlowMatchEulerDiscreteScheduler(shift=3.0)
    expected = FlowNoisePath(shift=3.0).timesteps(plain.sigmas.double().clamp(max=1 - 1e-12))
    torch.testing.assert_close(expected, shifted.timesteps)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (FlowMatchEulerDiscreteScheduler(), "FlowMatchEulerDiscreteScheduler .*use FlowNoisePath"),
        (UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"), "use FlowNoisePath"),
        (EulerDiscreteScheduler(prediction_type="sigma"), "prediction_type='sigma'"),
        (PNDMScheduler(prediction_type="flow"), "prediction_type='flow'"),
    ],
)
def test_other_processes_are_refused_by_name(scheduler, said):
    with pytest.raises(ValueError, match=said):
        DiffusionNoisePath.from_scheduler(scheduler)


@pytest.mark.parametrize("options", [{"density": "cosmap"}, {"std": 0.0}, {"shift": -1.0}])
def test_flow_options_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FlowNoisePath(**options)


def test_gamma_must_be_positive():
    with pytest.raises(ValueError, match="min_snr_gamma=0"):
        diffusion(gamma=0)
