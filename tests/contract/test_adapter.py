"""What every family's adapter promises, against the family's own diffusers pipeline."""

import inspect
import re

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.models import ModelMixin
from diffusers.schedulers import SchedulerMixin
from torch import Tensor

from seppo_core.cache.encode_captions import TextEncoder
from seppo_core.config.geometry import misfits
from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import effective_config, make_scheduler, sample
from tests.contract.family import Family, is_flow
from tests.contract.rows import FAMILIES

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)

PROMPTS = ["a red house", "two cats under a tree, far too long for so few tokens"]
SOLVERS = [None, "ddim", "pndm", "euler", "dpm++", "unipc", "euler_ancestral", "ddpm"]


@pytest.fixture
def adapter(family: Family, tmp_path) -> Adapter:
    return family.adapter(tmp_path / "words")


@pytest.fixture
def plain(family: Family, tmp_path) -> DiffusionPipeline:
    """The same weights in a pipeline that no adapter has touched."""
    return family.pipeline(tmp_path / "plain words")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pixels_of(family: Family, batch: int = 2) -> Tensor:
    frames = [family.frames] if family.is_video else []
    return normal(batch, 3, *frames, *family.size).clamp(-1, 1)


def ours(adapter: Adapter, noise: Tensor, solver: str | None = None, guidance_scale: float = 3.0) -> Tensor:
    scheduler = make_scheduler(solver, adapter.scheduler)
    # one generator for each of our items and one for each of the pipeline's, alike
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(noise))]
    return sample(
        adapter,
        adapter.denoiser,
        adapter.encode_prompts(PROMPTS[: len(noise)]),
        noise=noise,
        steps=4,
        guidance_scale=guidance_scale,
        unconditional=adapter.encode_prompts([""]),
        scheduler=scheduler,
        generators=generators,
    )


def theirs(
    plain: DiffusionPipeline, family: Family, noise: Tensor, solver: str | None = None, guidance_scale: float = 3.0
) -> Tensor:
    plain.scheduler = make_scheduler(solver, plain.scheduler)
    return family.pipeline_latents(
        plain,
        PROMPTS[: len(noise)],
        noise,
        steps=4,
        guidance_scale=guidance_scale,
        generators=[torch.Generator().manual_seed(seed) for seed in range(len(noise))],
    )


def draw_as_ours(family: Family, scheduler: SchedulerMixin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise that a solver adds, drawn in our latents' order where the pipeline's is another."""
    module = inspect.getmodule(type(scheduler))
    if not hasattr(module, "randn_tensor"):
        return
    draw = module.randn_tensor

    def packed(shape, *, generator, **options) -> Tensor:
        return family.pack(draw((shape[0], *family.latent_shape), generator=generator, **options)).reshape(shape)

    monkeypatch.setattr(module, "randn_tensor", packed)


@pytest.mark.parametrize("solver", SOLVERS)
def test_sampler_is_the_pipeline(family, adapter, plain, solver, monkeypatch):
    noise = normal(2, *family.latent_shape)
    if solver is not None and is_flow(adapter):
        with pytest.raises(ValueError, match="this model is a flow"):
            ours(adapter, noise, solver)
        return
    if solver == "pndm" and adapter.scheduler.config.get("rescale_betas_zero_snr"):
        with pytest.raises(ValueError, match="zero terminal SNR"):
            ours(adapter, noise, solver)
        return
    found = ours(adapter, noise, solver)
    draw_as_ours(family, make_scheduler(solver, plain.scheduler), monkeypatch)
    expected = theirs(plain, family, noise, solver)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # zeros, or what went in, would pass any comparison
    assert expected.std() > 0.1
    assert (expected - noise).abs().max() > 0.1


def test_sampler_without_guidance_is_the_pipeline(family, adapter, plain):
    noise = normal(2, *family.latent_shape)
    unguided = ours(adapter, noise, guidance_scale=1.0)
    torch.testing.assert_close(unguided, theirs(plain, family, noise, guidance_scale=1.0), rtol=1e-4, atol=1e-5)
    difference = (unguided - ours(adapter, noise)).abs().max()
    assert difference == 0 if adapter.guidance == "none" else difference > 1e-2


def off_by_thirty_steps(adapter: Adapter):
    return lambda denoiser, x_t, t, condition: type(adapter).predict(adapter, denoiser, x_t, t - 30, condition)


def halves_swapped(adapter: Adapter):
    return lambda denoiser, x_t, t, condition: type(adapter).predict(
        adapter, denoiser, x_t, t, {name: value.flip(0) for name, value in condition.items()}
    )


@pytest.mark.parametrize("mutation", [off_by_thirty_steps, halves_swapped])
def test_parity_notices_a_wrong_predict(family, adapter, plain, mutation):
    """The contract can fail: mistakes of the kinds that adapters make move the latents far beyond its tolerance."""
    noise = normal(2, *family.latent_shape)
    expected = theirs(plain, family, noise)
    adapter.predict = mutation(adapter)
    assert (ours(adapter, noise) - expected).abs().max() > 1e-2


def test_prompts_are_encoded_as_the_pipeline_does(family, adapter, plain):
    expected, empty = family.encode(plain, PROMPTS)
    condition, unconditional = adapter.encode_prompts(PROMPTS), adapter.encode_prompts([""])
    assert condition.keys() == unconditional.keys() == expected.keys()
    for name, value in condition.items():
        torch.testing.assert_close(value, expected[name])
        torch.testing.assert_close(unconditional[name], empty[name][:1])
        assert not value.requires_grad
    assert adapter.truncated([*PROMPTS, ""]) == [1]


def test_captions_that_are_cut_are_counted_for_every_tokenizer(adapter):
    _, counts = TextEncoder(adapter, torch.float32).shard([*PROMPTS, ""], lambda _: None)
    parts = adapter.pipeline.components.items()
    assert {one.tokenizer for one in counts} == {n for n, p in parts if n.startswith("tokenizer") and p is not None}
    assert all(one.captions == len(PROMPTS) and one.cut <= 1 for one in counts)
    cut = [one for one in counts if one.cut]
    assert cut and all(one.longest == PROMPTS[1] and one.tokens > one.limit for one in cut)


def test_encode_and_decode_shapes(family, adapter):
    pixels = pixels_of(family)
    posterior = adapter.encode(pixels)
    for value in posterior:
        assert value.shape == (2, *family.latent_shape)
        assert value.dtype == torch.float32
        assert not value.requires_grad
    assert adapter.decode(posterior.mean).shape == pixels.shape
    frames = pixels.shape[2] if pixels.ndim == 5 else 1
    assert adapter.latent_shape(*pixels.shape[-2:], frames) == family.latent_shape


def vae_batch(family: Family, x: Tensor, item: int) -> Tensor:
    """One item as its VAE takes it: (f, c, h, w), or (1, c, f, h, w) where it takes clips, a picture as one."""
    if x.ndim == 4 and family.whole_clips:
        return x[item : item + 1].unsqueeze(2)
    if x.ndim == 4 or family.whole_clips:
        return x[item : item + 1]
    return x[item].transpose(0, 1)


@torch.no_grad()
def test_posterior_is_the_vae_s_scaled(family, adapter, plain):
    pixels = pixels_of(family)
    posterior = adapter.encode(pixels)
    if family.repeated:
        for value in posterior:
            assert torch.equal(value[:, :, : family.repeated], value[:, :, family.repeated : 2 * family.repeated])
    shift, scale = family.scaling(plain)
    for item in range(2):
        encoded = plain.vae.encode(vae_batch(family, pixels, item))
        z, z_std = (encoded.latent, 0) if "latent" in encoded else (encoded.latent_dist.mean, encoded.latent_dist.std)
        mean, logvar = (vae_batch(family, x, item) for x in posterior)
        if family.repeated:
            mean, logvar = mean[:, :, family.repeated :], logvar[:, :, family.repeated :]
        torch.testing.assert_close(mean, (z - shift) * scale, rtol=1e-4, atol=1e-5)
        std = torch.exp(0.5 * logvar)
        torch.testing.assert_close(std, z_std * scale + torch.zeros_like(std), rtol=1e-4, atol=1e-6)
        decoded = plain.vae.decode(mean / scale + shift).sample
        found = vae_batch(family, adapter.decode(posterior.mean), item)
        torch.testing.assert_close(found, decoded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "nearest"), [((60, 64), "64 × 64"), ((64, 3), "64 × {}"), ((67, 93), "64 × 96")])
def test_sizes_that_do_not_fit_name_the_nearest(family, adapter, size, nearest):
    with pytest.raises(
        ValueError, match=f"{size[0]} × {size[1]} does not fit .* use e.g. {nearest.format(family.multiple)}$"
    ):
        adapter.latent_shape(*size)
    # LTX's autoencoder computes its factor when it is built
    if "LTX" not in type(adapter).__name__:
        (problem,) = misfits(numbers_of(adapter), *size, 1)
        assert problem.endswith(f"use e.g. {nearest.format(family.multiple)}")


@pytest.mark.parametrize("frames", [0, 1000])
def test_frames_that_do_not_fit_name_the_limit(family, adapter, frames):
    with pytest.raises(ValueError, match=f"{frames} frames do not fit .* {family.frames_rule}") as refusal:
        adapter.latent_shape(64, 64, frames)
    for problem in misfits(numbers_of(adapter), 64, 64, frames) if family.is_video else ():
        assert problem == str(refusal.value)


def test_whole_bases_have_no_misfits(family, adapter):
    assert misfits(numbers_of(adapter), 2 * family.multiple, 4 * family.multiple, 1) == []


def numbers_of(adapter: Adapter) -> dict[str, dict]:
    models = {name: part for name, part in adapter.pipeline.components.items() if isinstance(part, ModelMixin)}
    return {name: {**part.config, "_class_name": type(part).__name__} for name, part in models.items()}


def test_path_is_the_scheduler_s(family, adapter):
    x_0, noise = normal(2, *family.latent_shape), normal(2, *family.latent_shape, seed=1)
    if is_flow(adapter):
        # unshifted, its steps are the thousandths of σ
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(1000)
        t = scheduler.timesteps[[300, 999]]
        x_t = adapter.path.add_noise(x_0, noise, t)
        torch.testing.assert_close(x_t, scheduler.scale_noise(x_0, t, noise))
        # one step along a true velocity from the last timestep ends at the data
        end = scheduler.step(adapter.path.target(x_0, noise, t)[1:], t[1], x_t[1:]).prev_sample
        torch.testing.assert_close(end, x_0[1:])
        return
    scheduler = adapter.scheduler
    # CogVideoX rescales its own betas; other solvers (Euler) may noise in another scale than the diffusion's
    if not type(scheduler).__name__.startswith("CogVideoX"):
        scheduler = DDPMScheduler.from_config(effective_config(scheduler))
    t = torch.tensor([0, 999])
    torch.testing.assert_close(adapter.path.add_noise(x_0, noise, t), scheduler.add_noise(x_0, noise, t))
    targets = {"epsilon": noise, "v_prediction": scheduler.get_velocity(x_0, noise, t)}
    torch.testing.assert_close(adapter.path.target(x_0, noise, t), targets[adapter.scheduler.config.prediction_type])


def test_only_the_denoiser_can_be_trained(family, adapter):
    for name, component in adapter.pipeline.components.items():
        if isinstance(component, torch.nn.Module) and component is not adapter.denoiser:
            assert not component.training, name
            assert not any(parameter.requires_grad for parameter in component.parameters()), name
    assert adapter.pipeline.components[adapter.component] is adapter.denoiser


def gradients(adapter: Adapter, family: Family) -> dict[str, Tensor]:
    adapter.denoiser.zero_grad()
    x_t, t = normal(2, *family.latent_shape), torch.tensor([10, 700])
    adapter.predict(adapter.denoiser, x_t, t, adapter.encode_prompts(PROMPTS)).square().mean().backward()
    # none at all where a module's answer is dropped
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in adapter.denoiser.named_parameters()
    }


def test_checkpointing_keeps_the_gradients(family, adapter):
    expected = gradients(adapter, family)
    adapter.denoiser.enable_gradient_checkpointing()
    found = gradients(adapter, family)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")
    # no weight is dead, so that the comparison says something of each (attention forgets a bias common to all keys)
    dead = {name for name, gradient in expected.items() if gradient.abs().max() == 0}
    assert dead == {name for name in expected if family.unreached and re.match(family.unreached, name)}


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "weights"])
@torch.no_grad()
def test_bfloat16_forward(family, adapter, autocast):
    x_t, t, condition = normal(2, *family.latent_shape), torch.tensor([10, 700]), adapter.encode_prompts(PROMPTS)
    expected = adapter.predict(adapter.denoiser, x_t, t, condition)
    if not autocast:
        adapter.denoiser.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = adapter.predict(adapter.denoiser, x_t, t, condition)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


@torch.no_grad()
def test_an_item_s_prediction_does_not_depend_on_its_batch(family, adapter):
    x_t, t, condition = normal(2, *family.latent_shape), torch.tensor([10, 700]), adapter.encode_prompts(PROMPTS)
    whole = adapter.predict(adapter.denoiser, x_t, t, condition)
    for item in range(2):
        part = slice(item, item + 1)
        alone = adapter.predict(adapter.denoiser, x_t[part], t[part], {k: v[part] for k, v in condition.items()})
        torch.testing.assert_close(alone, whole[part], rtol=1e-4, atol=1e-5)


def test_exported_pipeline_samples_the_same_in_plain_diffusers(family, adapter, tmp_path):
    noise = normal(2, *family.latent_shape)
    expected = ours(adapter, noise)
    adapter.export_pipeline().save_pretrained(tmp_path / "exported")
    exported = family.load_plain(tmp_path / "exported")
    torch.testing.assert_close(theirs(exported, family, noise), expected, rtol=1e-4, atol=1e-5)


def test_adapter_is_complete(family, adapter):
    assert not inspect.isabstract(type(adapter))
    assert adapter.guidance in ("cfg", "embedded", "none")
    assert (adapter.guidance == "cfg") == family.model.spec.cfg
    assert adapter.lora_targets.keys() == adapter.trainable.keys()
    assert "all" in adapter.lora_targets
    assert adapter.device == torch.device("cpu")
