"""What `plan` says, against hand-counts, real tensors, a real run's files and torch's own counter."""

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from seppo_core.config.gpus import GIB, GPUS, holding
from seppo_core.config.method import MethodConfig
from seppo_core.config.options import PlanRequest
from seppo_core.config.schema import TuneConfig
from seppo_core.config.training import OptimizerConfig
from seppo_core.models.recomputing import recompute
from seppo_core.models.tuning import trainable_parameters, trainable_state
from seppo_core.plan.architecture import pipeline_architecture
from seppo_core.plan.build import runnable
from seppo_core.plan.counter import GpuKernels, checkpointing, cost_of, counting, weights_of
from seppo_core.plan.estimate import make_plan
from seppo_core.plan.measure import measure
from seppo_core.plan.memory import memory, peak
from seppo_core.plan.report import print_plan
from seppo_core.plan.result import span
from seppo_core.plan.suggestions import cures
from seppo_core.training.setup import tune
from seppo_image.commands import load, train
from seppo_image.config import ImageModel
from tests import tiny

BASES = ImageModel.bases


def plan_of(config, **options):
    return make_plan(config, PlanRequest(**options))


def work_of(config):
    return measure(config)


def test_flops_of_a_linear_layer_and_of_attention_by_hand():
    layer, x = nn.Linear(3, 5), torch.randn(7, 3, requires_grad=True)
    with counting(weights_of(layer)) as counter:
        y = layer(x)
        assert counter.flops == 2 * 7 * 3 * 5
        y.sum().backward()
        # as many again for the weight's gradient and for the input's
        assert counter.flops == 3 * (2 * 7 * 3 * 5)
    with FakeTensorMode():
        q = torch.randn(2, 4, 1024, 8, requires_grad=True)
        cost = cost_of(lambda: F.scaled_dot_product_attention(q, q, q), [q])
    # scores and their use, each 2 x 1024 x 1024 x 8 a head
    assert cost.flops == 2 * (2 * 2 * 4 * 1024 * 1024 * 8)
    # the result, a float32 for each of its rows and two numbers for dropout are there, the scores never
    assert cost.peak == cost.kept == 4 * 2 * 4 * 1024 * (8 + 1) + 2 * 8


def test_live_bytes_by_hand():
    with FakeTensorMode():
        x = torch.randn(1000)

        def three() -> torch.Tensor:
            a = x + 1
            b = a * 2
            del a
            return b.view(10, 100)

        cost = cost_of(three, [x])
    assert (cost.peak, cost.kept) == (8000, 4000)


def fake_unet() -> tuple[FakeTensorMode, nn.Module]:
    fake, unet = FakeTensorMode(), tiny.unet()
    runnable(fake, unet)
    return fake, unet


def unet_loss(unet: nn.Module, size: int = 8) -> torch.Tensor:
    text = torch.ones(2, tiny.TOKENS, tiny.TEXT_WIDTH)
    answer = unet(torch.ones(2, 4, size, size), torch.ones(2), encoder_hidden_states=text, return_dict=False)[0]
    return answer.square().mean()


def saved_bytes(unet: nn.Module) -> int:
    """Of real tensors that autograd keeps for the backward pass, weights not counted."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in weights_of(unet)}
    saved = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = unet_loss(unet)
    assert loss.requires_grad
    return sum(size for size, _ in saved.values())


def test_memory_and_flops_of_a_model_without_memory_are_those_of_a_real_one():
    real = tiny.unet()
    with FlopCounterMode(display=False) as torchs:
        unet_loss(real)
    fake, unet = fake_unet()
    with fake:
        cost = cost_of(lambda: unet_loss(unet), weights_of(unet))
    # the CPU's attention has no formula in torch's counter; what it would add is known
    blocks = [module for module in real.modules() if type(module).__name__ == "Attention"]
    assert cost.flops > torchs.get_total_flops() > 0.8 * cost.flops and blocks
    assert cost.kept == pytest.approx(saved_bytes(real), rel=0.03)


def test_attention_is_fused_and_masks_and_heads_of_any_kind_pass():
    with FakeTensorMode(), GpuKernels():
        q = torch.randn(2, 4, 16, 8)
        mask = torch.ones(2, 1, 16, 16, dtype=torch.bool)
        assert F.scaled_dot_product_attention(q, q, q, attn_mask=mask).shape == q.shape
        few = torch.randn(2, 2, 16, 8)
        assert F.scaled_dot_product_attention(q, few, few, enable_gqa=True, is_causal=True).shape == q.shape
        flat = torch.randn(6, 16, 8)
        assert F.scaled_dot_product_attention(flat, flat, flat).shape == flat.shape


@pytest.mark.slow
def test_gradient_checkpointing_saves_memory_and_costs_a_forward_pass():
    costs = []
    for share in (0.0, 1.0, 0.5):
        fake, unet = fake_unet()
        unet.requires_grad_(True)
        if share:
            recompute(unet, share, checkpointing)
        with fake:
            for parameter in unet.parameters():
                parameter.grad = torch.zeros_like(parameter)
            costs.append(cost_of(lambda unet=unet: unet_loss(unet, 32).backward(), weights_of(unet), "bf16"))
    plain, saving, half = costs
    assert saving.peak < half.peak < plain.peak and plain.flops < half.flops < saving.flops
    assert saving.peak < 0.8 * plain.peak
    assert plain.flops * 1.1 < saving.flops < plain.flops * 4 / 3
    # nothing stays but autocast's copies of the weights, no more than half of them
    assert max(cost.kept for cost in costs) <= sum(p.numel() for p in unet.parameters()) * 2


def test_autocast_raises_norms_as_on_a_gpu():
    with FakeTensorMode(), counting([], "bf16"):
        half = torch.randn(2, 4, dtype=torch.bfloat16)
        assert F.layer_norm(half, (4,)).dtype == torch.float32
        assert F.softmax(half, -1).dtype == torch.float32
        assert (half @ half.T).dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_parameters_are_those_of_the_real_model(workshop, tmp_path, mode):
    config = workshop.config(tmp_path / "run", mode)
    adapter = load(config)
    denoiser = sum(p.numel() for p in adapter.denoiser.parameters())
    tune(adapter, config)
    plan = plan_of(config)
    assert plan.parameters.denoiser == denoiser
    assert plan.parameters.trained == sum(p.numel() for p in trainable_parameters(adapter.denoiser).values())
    held = plan.phases["training"]
    trained = 4 * plan.parameters.trained
    assert held["policy, float32"] == pytest.approx(4 * denoiser, rel=1e-3)
    assert held["gradients"] == held["reference's own weights"] == trained
    assert held["states of adamw"] == 2 * trained
    assert held.get("LoRA, float32", 0) == (trained if mode == "lora" else 0)


@pytest.mark.slow
def test_disk_is_that_of_a_real_run(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    plan = plan_of(config)
    assert plan.items_from.startswith("the cache")
    assert plan.disk.cache == sum(
        path.stat().st_size for path in workshop.cache.iterdir() if path.is_file() and path.name != "manifest.json"
    )
    # the same without a look at the cache, a caption of its own for each item
    alone = plan_of(config, items=plan.items)
    shards = sum(path.stat().st_size for path in workshop.cache.glob("items-*.safetensors"))
    assert plan.items * (alone.disk.per_item - work_of(config).caption_bytes) == pytest.approx(shards, rel=0.02)
    train(config)
    run = tmp_path / "run"
    pool = [load_file(path) for path in (run / "pool").iterdir()]
    assert plan.disk.pool == sum(t.numel() * t.itemsize for state in pool for t in state.values())
    newest = max((run / "checkpoints").iterdir())
    policy = load_file(next(newest.glob("*.safetensors")))
    state = torch.load(next(newest.glob("*.pt")), weights_only=True)
    moments = [leaf for leaf in tree_iter(state) if isinstance(leaf, torch.Tensor) and leaf.ndim]
    kept = sum(tensor.numel() * 4 for tensor in [*policy.values(), *moments])
    # tiny as these are, files hold as much again of names
    assert plan.disk.checkpoints == (config.loop.keep_checkpoints + 1) * kept
    adapter = load(config)
    tune(adapter, config)
    assert sum(t.numel() * 4 for t in trainable_state(adapter.denoiser).values()) == plan.disk.pool / 2


@pytest.mark.slow
def test_counts_and_flops_add_up(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    work, plan = work_of(config), plan_of(config, gpu="h100", gpus=2, utilisation=0.5)
    assert (plan.counts.updates, plan.counts.trained_samples, plan.counts.generated) == (6, 24, 24)
    # DDIM takes two steps, each with a second pass for guidance
    assert plan.counts.calls == 4
    assert plan.flops.generated_sample == 4 * plan.flops.forward == 4 * work.forward
    assert plan.flops.update == 2 * work.steps[False].flops
    assert plan.flops.update_reference == 4 * 2 * work.forward
    assert plan.hours.training == pytest.approx(6 * plan.flops.update / (2 * 0.5 * GPUS["h100"].single * 1e12) / 3600)
    assert plan.hours.total == plan.hours.training + plan.hours.generation


@pytest.mark.slow
def test_the_solver_s_own_steps_count(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    samples = replace(config.reference_samples, scheduler="pndm", steps=50, guidance_scale=1.0)
    assert work_of(replace(config, reference_samples=samples)).calls == 51


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "passes", "reference_passes"), [("sft", 1, 0), ("mapo", 2, 0), ("dpo", 2, 2), ("kto", 1, 1)]
)
def test_each_method_pays_for_its_own_passes(workshop, tmp_path, method, passes, reference_passes):
    config = workshop.config(tmp_path / "run", "full", method="seppo")  # a base under a LoRA computes no LoRA
    config = replace(config, method=MethodConfig.variants()[method]())
    work = work_of(config)
    size = config.loop.micro_batch_size
    assert work.step_reference == size * reference_passes * work.forward
    assert work.denoising is None and work.calls == 0
    # forward, a backward pass that is at most twice as much, and what a loss takes beside them
    policy = work.steps[False].flops - work.step_reference
    assert 1.5 * passes * size * work.forward < policy <= 3.05 * passes * size * work.forward
    assert work.observe == (2 * size * work.forward if method == "kto" else 0)
    assert (work.weights.reference > 0) == (reference_passes > 0)


@pytest.mark.slow
def test_anchor_draws_are_paid_for(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    more = replace(config, method=replace(config.method, anchor_draws=3))
    plain, drawn = work_of(config), work_of(more)
    assert drawn.forward == plain.forward
    extra = 3 * config.loop.micro_batch_size * plain.forward
    assert drawn.step_reference - plain.step_reference == extra
    assert drawn.steps[False].flops - plain.steps[False].flops == 2 * extra


@pytest.mark.slow
def test_ema_and_8_bit_and_several_gpus_show_in_memory(workshop, tmp_path):
    config = workshop.config(tmp_path / "run")
    config = replace(config, optimizer=OptimizerConfig(lr=1e-3, name="adamw8bit", ema_decay=0.9))
    work = work_of(config)
    one, two = memory(config, work, 1)["training"], memory(config, work, 2)["training"]
    assert one["EMA"] == 4 * work.weights.trained
    assert one["states of adamw8bit"] == pytest.approx(2 * work.weights.trained, rel=0.02)
    assert two["gradient buckets between GPUs"] == two["gradients"] and "gradient buckets between GPUs" not in one
    assert plan_of(config).disk.checkpoints == pytest.approx(3 * (8 + 2) * work.weights.trained, rel=0.01)


@pytest.mark.slow
def test_says_what_would_make_it_fit(workshop, tmp_path):
    config = workshop.config(tmp_path / "run")
    work = work_of(config)
    needed = peak(memory(config, work, 1))
    small = replace(GPUS["t4"], memory_gib=(needed - 1) / GIB)
    fits, holders = cures(config, work, small, 1)
    assert fits.startswith("it fits T4") and "gradient_checkpointing: true" in fits
    assert "RTX 3080 10 GB, RTX 2080 Ti 11 GB and larger would hold" in holders
    nothing, _ = cures(config, work, replace(small, memory_gib=0.5), 1)
    assert nothing.startswith("no setting that was tried makes it fit T4") and "tune.mode: lora" in nothing
    assert holding(100 * GIB)[0] == "H200 141 GB SXM" and holding(1000 * GIB) == []


@pytest.mark.slow
def test_notes_say_what_is_amiss(workshop, tmp_path):
    config = workshop.config(tmp_path / "run")
    uneven = plan_of(config, gpus=3)
    assert any("train will refuse this" in note and "use e.g. 6" in note for note in uneven.notes)
    assert any("every winner is used" in note for note in uneven.notes)
    endless = replace(config, loop=replace(config.loop, iterations=10**14))
    assert any(note.startswith("this run is unrealistic") for note in plan_of(endless).notes)
    unknown = replace(config, data=replace(config.data, cache=str(tmp_path / "a"), source=str(tmp_path / "b")))
    plan = plan_of(unknown)
    assert (plan.items, plan.disk.cache, plan.hours.prepare) == (None, None, None)
    assert "--items" in plan.items_from


def test_prints_a_table_and_json(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    outputs = []
    for as_json in (False, True):
        with redirect_stdout(StringIO()) as output:
            plan = print_plan(config, PlanRequest(json=as_json))
        outputs.append(output.getvalue())
    table, numbers = outputs[0], json.loads(outputs[1])
    assert f"the folder {workshop.base}" in table and "a LoRA of rank 2" in table
    for section in ("parameters", "memory on each of 1 x A100", "work", "disk", "time on", "assumed"):
        assert f"\n{section}" in table
    assert numbers["parameters"]["trained"] == plan.parameters.trained
    assert numbers["hours_in_all"] == plan.hours.total
    assert not (tmp_path / "run").exists()


def test_what_is_unknown_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nothing is known of base='a/b' without network; plan knows .*sdxl|xl"
    ):
        pipeline_architecture("a/b", BASES)
    with pytest.raises(FileNotFoundError, match=r"has no model_index\.json"):
        pipeline_architecture(str(tmp_path), BASES)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="is not a JSON file"):
        pipeline_architecture(str(tmp_path), BASES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpus": 0}, r"--gpus 0 must be at least 1"),
        ({"items": 0}, r"--items 0 must be at least 1"),
        ({"utilisation": 1.5}, r"--utilisation 1\.5 is a share"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        PlanRequest(**values)


def test_spans_are_in_people_s_units():
    spans = [span(hours) for hours in (0.5, 3, 240, 24 * 365 * 3)]
    assert spans == ["30.0 minutes", "3.0 hours", "10.0 days", "3.0 years"]


@pytest.mark.slow
def test_a_lora_on_motion_or_half_precision_is_read_from_the_config(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    half = replace(config, model=replace(config.model, dtype="bfloat16"), tune=TuneConfig(mode="lora", rank=8))
    plain, small = work_of(config).weights, work_of(half).weights
    assert small.base == pytest.approx(plain.base / 2, rel=1e-3)
    assert small.trained == 4 * plain.trained
    assert small.dtypes["unet"] == "bfloat16" and small.dtypes["text_encoder"] == "bfloat16"
