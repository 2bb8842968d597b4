"""How an update is computed, for every family: nothing waits for the device within, and compiled blocks, parts that are
not recomputed and a reference without its LoRA of zeros change nothing."""

import pytest
import torch

from seppo_core.methods.reference import REFERENCE, LoraView
from seppo_core.models.compiling import compile_blocks, repeated_blocks
from seppo_core.models.offload import OffloadedBlocks
from seppo_core.models.recomputing import recompute
from seppo_core.models.tuning import lora_layers, portable_name, trainable_parameters, trainable_state
from tests.contract.family import Family
from tests.contract.rows import FAMILIES
from tests.contract.test_offload import on
from tests.contract.test_training import batch_of, lora_policy, loss_and_gradients, shaken
from tests.waits import waits

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
# torch hides it as it compiles, but not from a filter that makes errors of warnings
UNSEEN = "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"


def test_no_pass_waits_for_the_device(family: Family, tmp_path):
    adapter = lora_policy(family, tmp_path)
    batch = on(batch_of(adapter, family), "meta")
    reference = LoraView(adapter.denoiser)
    adapter.denoiser.to("meta")
    # tables go to a device with the first pass, and stay
    loss_and_gradients(adapter, reference, batch)
    with waits() as found:
        _, loss, gradients = loss_and_gradients(adapter, reference, batch)
    assert not found
    assert loss.is_meta and gradients and all(gradient.is_meta for gradient in gradients.values())


@pytest.mark.slow
@pytest.mark.filterwarnings(UNSEEN)
def test_compiled_blocks_change_nothing(family: Family, tmp_path):
    found = []
    for compiled in (False, True):
        adapter = lora_policy(family, tmp_path)
        denoiser = adapter.denoiser
        names = list(denoiser.state_dict())
        recompute(denoiser)
        offloads = not family.model.spec.unet
        if offloads:
            OffloadedBlocks(denoiser, torch.device("cpu"))
        reference = LoraView(denoiser)
        if compiled:
            assert repeated_blocks(denoiser)
            torch._dynamo.reset()
            compile_blocks(denoiser, "eager")
        assert [name for name in denoiser.state_dict() if ".reference." not in name] == names
        reference.load(shaken(trainable_state(denoiser), seed=3))
        # sizes that differ, the first again, and in half precision
        passes = []
        for size, half in ((2, False), (1, False), (2, False), (2, True)):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                passes.append(loss_and_gradients(adapter, reference, batch_of(adapter, family, size))[1:])
        found.append(passes)
    traced = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert traced >= 2
    for (loss, gradients), (other, theirs) in zip(*found, strict=True):
        assert torch.equal(loss, other)
        assert all(torch.equal(gradient, theirs[name]) for name, gradient in gradients.items())


@pytest.mark.slow
def test_a_share_that_is_recomputed_changes_nothing(family: Family, tmp_path):
    found, counted = [], []
    for share in (None, 1.0, 0.5):
        adapter = lora_policy(family, tmp_path)
        if share is not None:
            again = []
            recompute(adapter.denoiser, share, lambda *given, again=again: again.append(given) or given[0](*given[1:]))
            loss_and_gradients(adapter, LoraView(adapter.denoiser), batch_of(adapter, family, 1))
            counted.append(len(again))
            recompute(adapter.denoiser, share)
        reference = LoraView(adapter.denoiser)
        reference.load(shaken(trainable_state(adapter.denoiser), seed=3))
        found.append(loss_and_gradients(adapter, reference, batch_of(adapter, family, 1))[1:])
    assert counted[1] == counted[0] // 2 and counted[0] > 0
    (loss, gradients), *others = found
    for other, theirs in others:
        assert torch.equal(loss, other)
        assert all(torch.equal(gradient, theirs[name]) for name, gradient in gradients.items())


@pytest.mark.parametrize("half", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_base_as_reference_is_computed_without_a_lora_and_the_same(family: Family, tmp_path, monkeypatch, half):
    adapter = lora_policy(family, tmp_path)
    denoiser = adapter.denoiser
    reference, calls = LoraView(denoiser), []
    for name, module in denoiser.named_modules():
        if name.endswith(f"lora_A.{REFERENCE}"):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    moved = trainable_state(denoiser)
    base = {name: 0 * value if "lora_B" in name else value for name, value in moved.items()}
    found = []
    for state, computed in ((base, False), (base, True), (moved, True), (base, False)):
        calls.clear()
        with monkeypatch.context() as patched:
            if computed:
                patched.setattr(LoraView, "_adds_nothing", lambda self, state: False)
            reference.load(state)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            errors, loss, gradients = loss_and_gradients(adapter, reference, batch_of(adapter, family, 1))
        assert len({*calls}) == computed * len(lora_layers(denoiser))
        assert not any(layer.disable_adapters for layer in lora_layers(denoiser))
        assert trainable_parameters(denoiser).keys() == moved.keys() == {*map(portable_name, gradients)}
        found.append((*errors, loss, *gradients.values()))
    without, zeros, other, again = found
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(without, zeros, again, strict=True))
    assert not torch.equal(without[2], other[2])
