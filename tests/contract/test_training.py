"""What training relies on, for every family: ties at equal weights, what a LoRA reaches, what an export loads as."""

from dataclasses import replace
from math import log

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from seppo_core.export.weights import write_full, write_lora
from seppo_core.methods.contrastive import seppo_loss
from seppo_core.methods.errors import Errors, anchor_sign
from seppo_core.methods.nft import Nft
from seppo_core.methods.reference import FrozenCopy, LoraView, Reference, SwappedWeightsReference, make_reference
from seppo_core.methods.step import Batch, pair_errors
from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import sample
from seppo_core.models.tuning import (
    POLICY,
    load_trainable_state,
    lora_layers,
    merge_lora,
    portable_name,
    trainable_parameters,
    trainable_state,
    tune_full,
    tune_lora,
)
from tests.contract.family import Family
from tests.contract.rows import FAMILIES

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def adapter_of(family: Family, tmp_path) -> Adapter:
    adapter = family.adapter(tmp_path / "words")
    adapter.denoiser.eval()
    return adapter


def batch_of(adapter: Adapter, family: Family, size: int = 2, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shape = (size, *family.latent_shape)
    draws = [torch.randn(shape, generator=generator) for _ in range(4)]
    t = adapter.path.timesteps(torch.rand(size, generator=generator, dtype=torch.float64))
    condition = adapter.encode_prompts(["a red house", "two cats"][:size])
    return Batch(
        x0=draws[0], condition=condition, t=t, noise=draws[1], noise_path=adapter.path, counterpart=draws[2],
        counterpart_noise=draws[3],
    )  # fmt: skip


def shaken(state: dict[str, Tensor], seed: int, scale: float = 0.02) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: value + scale * torch.randn(value.shape, generator=generator) for name, value in state.items()}


def lora_policy(family: Family, tmp_path, alpha: float = 4) -> Adapter:
    adapter = adapter_of(family, tmp_path)
    tune_lora(adapter.denoiser, adapter.lora_targets["all"], rank=2, alpha=alpha)
    load_trainable_state(adapter.denoiser, shaken(trainable_state(adapter.denoiser), seed=1))
    return adapter


def loss_and_gradients(
    adapter: Adapter, reference: Reference, batch: Batch
) -> tuple[Errors, Tensor, dict[str, Tensor]]:
    for parameter in adapter.denoiser.parameters():
        parameter.grad = None
    errors = pair_errors(adapter, adapter.denoiser, reference, batch)
    loss, _ = seppo_loss(errors, anchor_sign(errors), beta=50.0)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in trainable_parameters(adapter.denoiser).items()}
    return errors, loss.detach(), gradients


@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_weights_give_log_2_and_ties(family, tmp_path, mode, precision):
    adapter = adapter_of(family, tmp_path)
    if mode == "full":
        tune_full(adapter.denoiser)
    else:
        adapter = lora_policy(family, tmp_path)
    reference = make_reference(adapter.denoiser)
    reference.track(torch.optim.SGD(trainable_parameters(adapter.denoiser).values(), lr=0.1))
    reference.load(trainable_state(adapter.denoiser))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        errors = pair_errors(adapter, adapter.denoiser, reference, batch_of(adapter, family))
        loss, metrics = seppo_loss(errors, anchor_sign(errors), beta=2000.0)
    assert torch.equal(errors.policy_winner, errors.reference_winner)
    assert torch.equal(errors.policy_sample, errors.reference_sample)
    assert loss.item() == pytest.approx(log(2), abs=1e-7)
    assert metrics["share_s_minus"] == 1


def test_lora_step_reaches_only_the_policy_s_lora(family, tmp_path):
    adapter = lora_policy(family, tmp_path)
    reference = make_reference(adapter.denoiser)
    assert isinstance(reference, LoraView)
    reference.load(shaken(trainable_state(adapter.denoiser), seed=2))
    before = {name: parameter.detach().clone() for name, parameter in adapter.denoiser.named_parameters()}
    optimizer = torch.optim.SGD(trainable_parameters(adapter.denoiser).values(), lr=0.1)
    loss_and_gradients(adapter, reference, batch_of(adapter, family))
    optimizer.step()
    changed = {
        name for name, parameter in adapter.denoiser.named_parameters() if not torch.equal(parameter, before[name])
    }
    assert changed
    assert all(".policy." in name for name in changed)
    policy_loras = {name for name in before if ".policy." in name}
    # every one of them: a switch of adapters between forward and backward would drop some or all
    assert changed == policy_loras


@pytest.mark.parametrize("normalise", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_nft_is_its_formula_on_what_is_predicted(family, tmp_path, normalise):
    """Of diffusions and flows alike: the errors of x_0 that both implicit policies come to, each by hand."""
    adapter, beta = lora_policy(family, tmp_path), 0.3
    reference = make_reference(adapter.denoiser)
    reference.load(shaken(trainable_state(adapter.denoiser), seed=2))
    batch = replace(batch_of(adapter, family), reward=torch.tensor([0.2, 1.0]), counterpart=None)
    loss, metrics = Nft(beta=beta, normalise=normalise).loss(adapter, adapter.denoiser, reference, batch)
    path, t = adapter.path, batch.t
    x_t = path.add_noise(batch.x0, batch.noise, t)
    with torch.no_grad():
        own = adapter.predict(adapter.denoiser, x_t, t, batch.condition)
        with reference.active() as frozen:
            old = adapter.predict(frozen, x_t, t, batch.condition)
    expected = 0.0
    for share, side in ((batch.reward, own - old), (1 - batch.reward, old - own)):
        off = old + beta * side - path.target(batch.x0, batch.noise, t)
        if normalise:
            off = path.recover(x_t.double(), (old + beta * side).double(), t) - batch.x0
        error = off.double().square().flatten(1).mean(1)
        size = off.double().abs().flatten(1).mean(1) if normalise else 1
        expected = expected + (share * error / size / beta).mean()
    assert loss.item() == pytest.approx(float(expected), rel=2e-3)
    assert (
        metrics["drift"].item() == pytest.approx(float((own - old).square().mean()), rel=1e-4) and metrics["drift"] > 0
    )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_view_equals_frozen_copy(family, tmp_path, checkpointing):
    """A reference on shared weights against one with its own, also when activations are recomputed."""
    adapter = lora_policy(family, tmp_path)
    if checkpointing:
        adapter.denoiser.enable_gradient_checkpointing()
    state = shaken(trainable_state(adapter.denoiser), seed=2)
    batch = batch_of(adapter, family)
    # made before the view adds its slot; deepcopy keeps the policy's own LoRA in the copy
    copy = FrozenCopy(adapter.denoiser)
    copy.load(state)
    copied, copied_loss, copied_gradients = loss_and_gradients(adapter, copy, batch)
    view = LoraView(adapter.denoiser)
    view.load(state)
    viewed, viewed_loss, viewed_gradients = loss_and_gradients(adapter, view, batch)
    assert not torch.equal(viewed.policy_winner, viewed.reference_winner)
    for a, b in zip(copied, viewed, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(copied_loss, viewed_loss, rtol=0, atol=0)
    assert copied_gradients.keys() == viewed_gradients.keys()
    for name, gradient in copied_gradients.items():
        torch.testing.assert_close(gradient, viewed_gradients[name], msg=lambda text, name=name: f"{name}: {text}")


def test_exchanged_weights_equal_a_frozen_copy(family, tmp_path):
    """One module for both, as under shards, against two: same errors, same gradients, and the policy comes back."""
    adapter = adapter_of(family, tmp_path)
    tune_full(adapter.denoiser)
    start = trainable_state(adapter.denoiser)
    batch = batch_of(adapter, family)
    found = []
    for reference in (FrozenCopy(adapter.denoiser), SwappedWeightsReference(adapter.denoiser)):
        reference.load(shaken(start, seed=2))
        found.append(loss_and_gradients(adapter, reference, batch))
        now = trainable_state(adapter.denoiser)
        assert all(torch.equal(now[name], start[name]) for name in start)
    (copied, copied_loss, copied_gradients), (errors, loss, gradients) = found
    assert not torch.equal(errors.policy_winner, errors.reference_winner)
    for a, b in zip(copied, errors, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(copied_loss, loss, rtol=0, atol=0)
    for name, gradient in copied_gradients.items():
        torch.testing.assert_close(gradient, gradients[name], msg=lambda text, name=name: f"{name}: {text}")


def test_frozen_copy_keeps_its_weights_while_the_policy_moves(family, tmp_path):
    adapter = adapter_of(family, tmp_path)
    tune_full(adapter.denoiser)
    reference = make_reference(adapter.denoiser)
    assert isinstance(reference, FrozenCopy)
    batch = batch_of(adapter, family)
    before = pair_errors(adapter, adapter.denoiser, reference, batch)
    load_trainable_state(adapter.denoiser, shaken(trainable_state(adapter.denoiser), seed=3))
    after = pair_errors(adapter, adapter.denoiser, reference, batch)
    assert torch.equal(before.reference_winner, after.reference_winner)
    assert not torch.equal(before.policy_winner, after.policy_winner)


def test_state_of_another_tuning_is_refused(family, tmp_path):
    adapter = lora_policy(family, tmp_path)
    state = trainable_state(adapter.denoiser)
    name = next(iter(state))
    with pytest.raises(ValueError, match="names differ"):
        load_trainable_state(adapter.denoiser, {key: value for key, value in state.items() if key != name})
    with pytest.raises(ValueError, match="has shape"):
        load_trainable_state(adapter.denoiser, state | {name: torch.zeros(1)})


def latents_of(pipeline, family: Family, noise: Tensor) -> Tensor:
    return family.pipeline_latents(pipeline, ["a red house"], noise, steps=3, guidance_scale=3.0)


def ours(adapter: Adapter, noise: Tensor) -> Tensor:
    return sample(
        adapter,
        adapter.denoiser,
        adapter.encode_prompts(["a red house"]),
        noise=noise,
        steps=3,
        guidance_scale=3.0,
        unconditional=adapter.encode_prompts([""]),
    )


@pytest.mark.parametrize("alpha", [1.5, *(pytest.param(alpha, marks=pytest.mark.slow) for alpha in (2, 5))])
def test_exported_lora_in_a_plain_pipeline_gives_the_same_latents(family, tmp_path, alpha):
    adapter = lora_policy(family, tmp_path, alpha=alpha)
    LoraView(adapter.denoiser)  # the reference's slot must not leak into the file
    noise = torch.randn(1, *family.latent_shape, generator=torch.Generator().manual_seed(5))
    expected = ours(adapter, noise)
    folder = tmp_path / "lora"
    write_lora(adapter, folder)
    plain = family.pipeline(tmp_path / "plain")
    without = latents_of(plain, family, noise)
    family.load_lora(plain, folder)
    found = latents_of(plain, family, noise)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - without).abs().max() > 1e-3


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_exported_pipeline_in_plain_diffusers_gives_the_same_latents(family, tmp_path, mode):
    if mode == "lora":
        adapter = lora_policy(family, tmp_path)
    else:
        adapter = adapter_of(family, tmp_path)
        tune_full(adapter.denoiser)
        load_trainable_state(adapter.denoiser, shaken(trainable_state(adapter.denoiser), seed=4))
    noise = torch.randn(1, *family.latent_shape, generator=torch.Generator().manual_seed(5))
    expected = ours(adapter, noise)
    folder = tmp_path / "full"
    write_full(adapter, folder)
    plain = family.load_plain(folder)
    # merging rounds W + BA once where the LoRA adds BAx to Wx
    tolerance = {"rtol": 1e-3, "atol": 2e-4} if mode == "lora" else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(latents_of(plain, family, noise), expected, **tolerance)


def test_merged_lora_leaves_plain_weights(family, tmp_path):
    adapter = lora_policy(family, tmp_path)
    names = {name for name, _ in adapter_of(family, tmp_path / "other").denoiser.named_parameters()}
    merge_lora(adapter.denoiser)
    assert not lora_layers(adapter.denoiser)
    assert {name for name, _ in adapter.denoiser.named_parameters()} == names


def test_fresh_lora_changes_nothing_and_depends_on_the_seed_alone(family, tmp_path):
    first, second = adapter_of(family, tmp_path), adapter_of(family, tmp_path)
    batch = batch_of(first, family)
    plain = first.predict(first.denoiser, batch.x0, batch.t, batch.condition)
    tune_lora(first.denoiser, first.lora_targets["all"], rank=2)
    torch.randn(7)
    tune_lora(second.denoiser, second.lora_targets["all"], rank=2)
    torch.testing.assert_close(first.predict(first.denoiser, batch.x0, batch.t, batch.condition), plain)
    a, b = trainable_state(first.denoiser), trainable_state(second.denoiser)
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_an_exported_lora_is_taken_again_whole_and_one_of_other_names_refused(family, tmp_path):
    adapter = lora_policy(family, tmp_path)
    write_lora(adapter, tmp_path / "lora")
    again = adapter_of(family, tmp_path)
    again.load_lora(str(tmp_path / "lora"), POLICY)
    state = {portable_name(name): p for name, p in again.denoiser.named_parameters() if f".{POLICY}." in name}
    expected = trainable_state(adapter.denoiser)
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in state)
    (file,) = (tmp_path / "lora").glob("*.safetensors")
    with safe_open(file, framework="pt") as opened:
        held = opened.metadata()
    # one layer of another model among the right ones
    other = {key.replace("to_q.", "to_query.", 1) if ".to_q." in key else key: t for key, t in load_file(file).items()}
    save_file(other, file, held)
    with pytest.raises(ValueError, match=r"of its \d+ tensors belong to no layer .*to_query"):
        adapter_of(family, tmp_path).load_lora(str(tmp_path / "lora"), POLICY)
