"""The sampler on a denoiser whose exact answer is known, without any model family."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from seppo_core.models.adapter import Adapter
from seppo_core.models.noise_path import DiffusionNoisePath, FlowNoisePath
from seppo_core.models.sampling import SCHEDULERS, effective_config, make_scheduler, sample, sample_steps
from tests import tiny

STEPS = 8
SPREAD = 0.5
"""Standard deviation of the data that the exact denoiser below knows."""


class Gaussian(nn.Module):
    """The optimal denoiser of data that is normal around the condition, with standard deviation `SPREAD`."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.calls: list[tuple[int, list[float]]] = []

    def forward(self, x_t: Tensor, t: Tensor, mean: Tensor) -> Tensor:
        self.calls.append((len(x_t), t.tolist()))
        alpha, sigma = (c.to(x_t)[:, None, None, None] for c in self.path.coefficients(t))
        mean = mean[:, None, None, None]
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        x_0 = mean + gain * (x_t - alpha * mean)
        # ε and the velocity noise − x_0 are both linear in x_t and x_0
        noise = (x_t - alpha * x_0) / sigma
        return noise - x_0 if isinstance(self.path, FlowNoisePath) else noise


class Toy(Adapter):
    """An adapter with no model behind it: the condition is the mean of the data."""

    guidance = "cfg"
    lora_targets = {"all": []}  # noqa: RUF012
    trainable = {"all": ".*"}  # noqa: RUF012
    encode_prompts = encode = decode = latent_shape = export_pipeline = None

    def __init__(self, scheduler):
        self.scheduler = scheduler
        flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
        self.path = FlowNoisePath() if flow else DiffusionNoisePath.from_scheduler(scheduler)
        self.denoiser = Gaussian(self.path)

    def predict(self, denoiser, x_t, t, condition):
        return denoiser(x_t, t, condition["mean"])


def ddim(**options) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        timestep_spacing="trailing", **options,
    )  # fmt: skip


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def means(*values: float) -> dict[str, Tensor]:
    return {"mean": torch.tensor(values)}


def drawn(adapter: Toy, noise: Tensor, condition: dict[str, Tensor], **options) -> Tensor:
    settings = {"steps": STEPS, "guidance_scale": 1.0} | options
    return sample(adapter, adapter.denoiser, condition, noise=noise, **settings)


def flow_of_the_gaussian(
    path: DiffusionNoisePath | FlowNoisePath, start: float, noise: Tensor, means: Tensor
) -> Tensor:
    """Where the exact probability flow takes `noise` at t = `start`: its standardised value is kept on the way.

    Stable Diffusion's schedule ends at α = 0.07, not 0, so that pure noise is a little off from what x_t should be.
    """
    alpha, sigma = (coefficient.to(noise) for coefficient in path.coefficients(torch.tensor([start])))
    means = means[:, None, None, None]
    return means + SPREAD * (noise - alpha * means) / (alpha**2 * SPREAD**2 + sigma**2).sqrt()


@pytest.mark.parametrize("name", ["ddim", "dpm++", "euler", "pndm", "unipc"])
def test_deterministic_solvers_follow_the_exact_flow(name):
    adapter = Toy(ddim())
    noise, condition = normal(2, 4, 8, 8), means(3.0, -1.0)
    latents = drawn(adapter, noise, condition, scheduler=make_scheduler(name, adapter.scheduler), steps=200)
    torch.testing.assert_close(
        latents, flow_of_the_gaussian(adapter.path, 999, noise, condition["mean"]), rtol=0, atol=0.05
    )


def test_flow_matching_follows_the_exact_flow():
    adapter = Toy(FlowMatchEulerDiscreteScheduler())
    noise, condition = normal(2, 4, 8, 8), means(3.0, -1.0)
    expected = flow_of_the_gaussian(adapter.path, 1000, noise, condition["mean"])
    torch.testing.assert_close(drawn(adapter, noise, condition, steps=200), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("name", ["ddpm", "euler_ancestral"])
def test_solvers_that_add_noise_reach_the_data(name):
    adapter = Toy(ddim())
    scheduler = make_scheduler(name, adapter.scheduler)
    latents = drawn(adapter, normal(2, 4, 32, 32), means(3.0, -1.0), scheduler=scheduler, steps=100)
    for item, mean in zip(latents, (3.0, -1.0), strict=True):
        assert item.mean().item() == pytest.approx(mean, abs=0.05)
        assert item.std().item() == pytest.approx(SPREAD, rel=0.1)


def test_guidance_is_one_concatenated_forward_unconditional_first():
    adapter = Toy(ddim())
    guided = drawn(adapter, normal(2, 4, 8, 8), means(3.0, -1.0), guidance_scale=2.0, unconditional=means(0.0))
    assert [size for size, _ in adapter.denoiser.calls] == [4] * STEPS
    # this denoiser is affine in the mean, so that guidance 2 from 0 is the mean moved twice as far
    torch.testing.assert_close(guided, drawn(Toy(ddim()), normal(2, 4, 8, 8), means(6.0, -2.0)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("interval", "first", "last"), [((0.25, 0.625), 3, 5), ((0.0, 0.5), 1, 4), ((0.3, 1.0), 3, 8)])
def test_guidance_on_an_interval_is_two_passes_within_it_and_one_outside(interval, first, last):
    adapter, noise, condition = Toy(ddim()), normal(2, 4, 8, 8), means(3.0, -1.0)
    options = {"guidance_scale": 2.0, "unconditional": means(0.0), "guidance_interval": interval}
    found = drawn(adapter, noise, condition, **options)
    sizes = [4 if first <= number <= last else 2 for number in range(1, STEPS + 1)]
    assert [size for size, _ in adapter.denoiser.calls] == sizes
    # step by step in DDIM's own words: guidance 2 from 0 is the mean moved twice as far
    solver, x_t = ddim(), noise
    solver.set_timesteps(STEPS)
    for size, t in zip(sizes, solver.timesteps, strict=True):
        mean = condition["mean"] * (2 if size == 4 else 1)
        x_t = solver.step(adapter.denoiser(x_t, t.expand(2), mean), t, x_t).prev_sample
    torch.testing.assert_close(found, x_t, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance_scale", [0.0, 0.5, 1.0])
def test_no_guidance_is_one_plain_forward(guidance_scale):
    adapter = Toy(ddim())
    drawn(adapter, normal(2, 4, 8, 8), means(3.0, -1.0), guidance_scale=guidance_scale)
    assert [size for size, _ in adapter.denoiser.calls] == [2] * STEPS


def test_families_without_guidance_take_one_forward():
    adapter = Toy(ddim())
    adapter.guidance = "embedded"
    drawn(adapter, normal(1, 4, 8, 8), means(3.0), guidance_scale=7.5)
    assert [size for size, _ in adapter.denoiser.calls] == [1] * STEPS


def test_names_that_unconditional_lacks_keep_the_item_s_value():
    seen = []

    class Sized(Toy):
        def predict(self, denoiser, x_t, t, condition):
            seen.append(condition["size"].tolist())
            return super().predict(denoiser, x_t, t, condition)

    condition = means(3.0, -1.0) | {"size": torch.tensor([64, 32])}
    drawn(Sized(ddim()), normal(2, 4, 8, 8), condition, guidance_scale=2.0, unconditional=means(0.0))
    assert seen[0] == [64, 32, 64, 32]


@pytest.mark.parametrize("name", ["ddim", "euler_ancestral", "ddpm"])
@pytest.mark.parametrize("with_generators", [True, False])
def test_an_item_does_not_depend_on_its_batch(name, with_generators):
    noise = normal(3, 4, 8, 8)

    def run(items: list[int]) -> Tensor:
        adapter = Toy(ddim())
        generators = [torch.Generator().manual_seed(item) for item in items] if with_generators else None
        condition = {"mean": torch.tensor([3.0, -1.0, 0.5])[items]}
        scheduler = make_scheduler(name, adapter.scheduler)
        return drawn(adapter, noise[items], condition, generators=generators, scheduler=scheduler)

    torch.manual_seed(1)
    whole = run([0, 1, 2])
    torch.manual_seed(2)
    torch.testing.assert_close(run([2, 0]), whole[[2, 0]], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(run([1]), whole[[1]], rtol=1e-6, atol=1e-6)


def test_the_global_generator_is_left_alone():
    adapter = Toy(ddim())
    state = torch.get_rng_state()
    drawn(adapter, normal(1, 4, 8, 8), means(3.0), scheduler=make_scheduler("euler_ancestral", adapter.scheduler))
    assert torch.equal(torch.get_rng_state(), state)


def test_different_generators_give_different_samples():
    adapter = Toy(ddim())
    scheduler = make_scheduler("ddpm", adapter.scheduler)
    noise = normal(1, 4, 8, 8).repeat(2, 1, 1, 1)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    one, other = drawn(adapter, noise, means(3.0, 3.0), generators=generators, scheduler=scheduler)
    assert (one - other).abs().max() > 0.1


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_are_left_untouched(name):
    adapter = Toy(ddim())
    scheduler = make_scheduler(name, adapter.scheduler)
    before = {key: str(value) for key, value in vars(scheduler).items()}
    first = drawn(adapter, normal(1, 4, 8, 8), means(3.0), scheduler=scheduler)
    assert {key: str(value) for key, value in vars(scheduler).items()} == before
    assert torch.equal(first, drawn(adapter, normal(1, 4, 8, 8), means(3.0), scheduler=scheduler))


def test_the_caller_sees_every_step():
    adapter, noise = Toy(ddim()), normal(1, 4, 8, 8)
    pndm = make_scheduler("pndm", tiny.scheduler())
    options = {"noise": noise, "steps": STEPS, "guidance_scale": 1.0, "scheduler": pndm}
    seen = []
    for latents in sample_steps(adapter, adapter.denoiser, means(3.0), **options):
        # between two steps the caller's own mode holds
        assert torch.is_grad_enabled() and not latents.requires_grad
        seen.append(latents)
    # the multistep solver takes its first step twice
    assert len(seen) == STEPS + 1
    assert torch.equal(seen[-1], sample(adapter, adapter.denoiser, means(3.0), **options))


def test_no_gradient_is_recorded():
    adapter = Toy(ddim())
    noise = normal(1, 4, 8, 8).requires_grad_()
    assert not drawn(adapter, noise, means(3.0)).requires_grad


def test_latents_keep_the_noise_s_dtype_under_a_half_precision_denoiser():
    class Half(Toy):
        def predict(self, denoiser, x_t, t, condition):
            return super().predict(denoiser, x_t, t, condition).bfloat16()

    for name in SCHEDULERS:
        scheduler = make_scheduler(name, ddim())
        latents = drawn(Half(ddim()), normal(1, 4, 8, 8), means(3.0), scheduler=scheduler)
        assert latents.dtype == torch.float32
        # not rounded to bfloat16 on the way
        assert not torch.equal(latents, latents.bfloat16().float())


def test_latents_that_are_not_finite_are_an_error():
    class Broken(Toy):
        def predict(self, denoiser, x_t, t, condition):
            prediction = super().predict(denoiser, x_t, t, condition)
            prediction[1, 0, 0, 0] = math.nan
            return prediction

    with pytest.raises(FloatingPointError, match=r"items \[1\] of a batch of 3"):
        drawn(Broken(ddim()), normal(3, 4, 8, 8), means(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance_scale": 2.0}, "needs `unconditional`"),
        ({"guidance_scale": 2.0, "unconditional": {"text": torch.zeros(1)}}, r"\['text'\]"),
        ({"guidance_scale": 2.0, "unconditional": means(0.0, 0.0)}, "give 1 or 3"),
        ({"generators": [torch.Generator()]}, "1 generators for 3 items"),
        ({"guidance_interval": (0.2, 0.7)}, "limits classifier-free guidance, and there is none"),
    ],
)
def test_inputs_that_do_not_fit_together(options, said):
    with pytest.raises(ValueError, match=said):
        drawn(Toy(ddim()), normal(3, 4, 8, 8), means(1.0, 2.0, 3.0), **options)


def test_condition_of_another_batch():
    with pytest.raises(ValueError, match="condition 'mean' is for 2 items, the noise for 3"):
        drawn(Toy(ddim()), normal(3, 4, 8, 8), means(1.0, 2.0))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_solvers_follow_the_base(name):
    """Betas, prediction and grid are the base's; and no clipping, which the base's class may have no word for."""
    base = tiny.scheduler("v_prediction")
    solver = make_scheduler(name, base)
    assert type(solver).__name__ == SCHEDULERS[name]
    torch.testing.assert_close(solver.alphas_cumprod, base.alphas_cumprod)
    for key in ("prediction_type", "timestep_spacing", "steps_offset"):
        assert solver.config[key] == base.config[key]
    assert not solver.config.get("clip_sample")
    # a base that clips keeps on clipping, where the solver can
    assert make_scheduler("ddpm", DDIMScheduler(clip_sample=True)).config.clip_sample


@pytest.mark.parametrize("name", SCHEDULERS)
def test_solvers_step_alike_before_and_after_saving(name, tmp_path):
    """diffusers itself would take the new class's default grid, until the base has been saved and loaded once."""
    base = tiny.scheduler()
    base.save_pretrained(tmp_path)
    saved = type(base).from_pretrained(tmp_path)
    before, after = make_scheduler(name, base), make_scheduler(name, saved)
    for scheduler in (before, after):
        scheduler.set_timesteps(STEPS)
    assert torch.equal(before.timesteps, after.timesteps)
    ignored = {"_class_name", "_diffusers_version", "_use_default_values"}
    one, other = ({k: v for k, v in effective_config(s).items() if k not in ignored} for s in (before, after))
    assert one == other


def test_default_is_the_base_itself():
    base = tiny.scheduler()
    assert make_scheduler(None, base) is base
    assert make_scheduler("default", base) is base


@pytest.mark.parametrize(
    ("name", "base", "said"),
    [
        ("heun", ddim(), "scheduler='heun' is not known; use default, ddim"),
        ("ddim", FlowMatchEulerDiscreteScheduler(), "this model is a flow"),
        ("pndm", ddim(rescale_betas_zero_snr=True), "no form for zero terminal SNR"),
    ],
)
def test_solvers_that_cannot_follow(name, base, said):
    with pytest.raises(ValueError, match=said):
        make_scheduler(name, base)
