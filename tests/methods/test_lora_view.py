"""Which references a second LoRA is computed for: all but the base itself."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from seppo_core.methods.reference import REFERENCE, LoraView
from seppo_core.models.compiling import compile_blocks
from seppo_core.models.tuning import POLICY, load_trainable_state, trainable_state, tune_lora
from seppo_core.run.history import read_metrics
from seppo_image import commands
from tests import tiny
from tests.training.test_resume import assert_same_run


@pytest.mark.parametrize(
    ("kind", "change", "computed"),
    [
        ({}, {}, False),
        ({}, {"to_q.lora_B.weight": 0.1}, True),
        ({}, {"to_q.lora_B.weight": float("nan")}, True),
        ({"use_rslora": True}, {}, True),
        ({"use_dora": True}, {"to_q.lora_magnitude_vector.weight": 2.0}, True),
        ({"lora_bias": True}, {"to_q.lora_B.bias": 1.0}, True),
    ],
    ids=lambda value: "-".join(value) or "plain" if isinstance(value, dict) else "",
)
def test_only_a_plain_lora_of_zeros_is_left_out(kind, change, computed):
    model = nn.ModuleDict({"to_q": nn.Linear(4, 4), "to_k": nn.Linear(4, 4)}).requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q", "to_k"], **kind), model, POLICY)
    view = LoraView(model)
    state = trainable_state(model)
    for name, value in change.items():
        state[name][..., -1] = value
    view.load(state)
    layer, seen = model["to_q"], []
    layer.lora_A[REFERENCE].register_forward_hook(lambda *_: seen.append(True))
    with view.active() as module:
        module["to_q"](torch.ones(1, 4))
    assert bool(seen) is computed
    assert not layer.disable_adapters and layer.active_adapters == [POLICY]


def test_a_run_from_the_base_is_the_same_without_its_lora_of_zeros(workshop, tmp_path, monkeypatch):
    shown = []
    for left_out in (True, False):
        entered = []
        if not left_out:
            monkeypatch.setattr(LoraView, "_adds_nothing", lambda self, state: False)
        real = LoraView.active

        def active(self, real=real, entered=entered):
            entered.append(self._is_base)
            return real(self)

        monkeypatch.setattr(LoraView, "active", active)
        config = workshop.config(tmp_path / str(left_out), "lora")
        loop = replace(config.loop, gradient_checkpointing=True)
        commands.train(replace(config, loop=loop, method=replace(config.method, reference="initial")))
        shown.append(entered)
        monkeypatch.undo()
    assert len(shown[0]) > 5 and all(shown[0][1:]) and not any(shown[1])
    assert any(line["winner_gap"] for line in read_metrics(tmp_path / "True"))
    assert_same_run(tmp_path / "True", tmp_path / "False")


# torch hides it as it compiles, but not from a filter that makes errors of warnings
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.slow
def test_switching_a_compiled_model_makes_no_graph_twice():
    unet = tiny.unet()
    tune_lora(unet, ["to_q", "to_k", "to_v", "to_out.0"], rank=2)
    view = LoraView(unet.eval())
    torch._dynamo.reset()
    compile_blocks(unet, "eager")
    base = trainable_state(unet)
    moved = {name: value + 0.1 for name, value in base.items()}
    load_trainable_state(unet, moved)
    arguments = torch.ones(1, 4, 8, 8), torch.tensor([5]), torch.ones(1, 16, tiny.TEXT_WIDTH)
    graphs, found = [], []
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for _ in range(3):
        for state in (moved, base):
            view.load(state)
            with view.active() as frozen:
                found.append(frozen(*arguments).sample)
            unet(*arguments).sample.sum().backward()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)
    assert graphs[0] > 0 and graphs == [graphs[0]] * 3
    assert all(torch.equal(found[i], found[i % 2]) for i in range(6)) and not torch.equal(found[0], found[1])
