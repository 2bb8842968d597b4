"""What `plan` says of shards, of a reference that waits on the CPU, of a pool that forgets, of batches that shrink."""

from dataclasses import replace

import pytest
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from seppo_core.config.gpus import GIB, GPUS
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.methods.sft import SftConfig
from seppo_core.config.options import PlanRequest
from seppo_core.config.training import PreviewConfig
from seppo_core.distributed.dtensor import to_local
from seppo_core.models.tuning import trainable_parameters
from seppo_core.plan.estimate import make_plan
from seppo_core.plan.measure import measure
from seppo_core.plan.memory import CONTEXT, memory, peak, preparing
from seppo_core.plan.suggestions import cures
from seppo_core.run.disk_budget import run_bytes
from seppo_core.training.parallel import blocks
from seppo_core.training.setup import tune
from seppo_image.commands import load

GATHERED = "blocks gathered from shards"


@pytest.fixture(scope="module")
def config(workshop, tmp_path_factory):
    """Full weights in bfloat16, as small as batches go, so that only the layout is left to change."""
    config = workshop.config(tmp_path_factory.mktemp("run"))
    loop = replace(config.loop, micro_batch_size=1, gradient_checkpointing=True, mixed_precision="bf16")
    samples = replace(config.reference_samples, batch_size=1)
    return replace(config, loop=loop, reference_samples=samples)


@pytest.fixture(scope="module")
def work(config):
    return measure(config)


def plan_of(config, **options):
    return make_plan(config, PlanRequest(**options))


def setting(config, section: str, **values):
    return replace(config, **{section: replace(vars(config)[section], **values)})


@pytest.fixture
def four_processes():
    """As this one sees them: nothing is sent."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield dist.init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


@pytest.mark.slow
def test_slices_are_those_that_torch_makes(config, work, four_processes):
    adapter = load(config)
    tune(adapter, config)
    unet = adapter.denoiser
    sizes = [sum(p.nbytes for p in block.parameters()) for block in blocks(unet)]
    outside = sum(p.nbytes for p in unet.parameters()) - sum(sizes)
    for block in blocks(unet):
        fully_shard(block, mesh=four_processes)
    fully_shard(unet, mesh=four_processes)
    policy = sum(to_local(p).nbytes for p in unet.parameters())
    trained = sum(to_local(p).nbytes for p in trainable_parameters(unet).values())
    phases = memory(setting(config, "loop", sharded=True), work, 4)
    # what does not divide by four is rounded up by torch, tensor by tensor
    assert phases["training"]["policy, float32"] == pytest.approx(policy, rel=0.02)
    for part in ("reference's own weights", "gradients"):
        assert phases["training"][part] == pytest.approx(trained, rel=0.02)
    assert phases["training"]["states of adamw"] == pytest.approx(2 * trained, rel=0.02)
    assert phases["optimizer step"]["steps of all weights"] == pytest.approx(trained, rel=0.02)
    # one that computes, one that is fetched; going back, as many gradients
    assert phases["generation"][GATHERED] == outside + 2 * max(sizes)
    assert phases["training"][GATHERED] == 2 * (outside + 2 * max(sizes))


@pytest.mark.slow
def test_shards_change_what_each_gpu_holds(config, work):
    whole, shards = memory(config, work, 4), memory(setting(config, "loop", sharded=True), work, 4)
    assert whole["training"]["gradient buckets between GPUs"] == 4 * work.weights.trained
    assert "gradient buckets between GPUs" not in shards["training"] and GATHERED not in whole["training"]
    assert shards["prepare"] == whole["prepare"]
    assert shards["training"]["activations"] == whole["training"]["activations"]
    assert peak(shards, prepare=False) < peak(whole, prepare=False)
    # one process has nobody to share with, and train says so
    alone = setting(config, "loop", sharded=True)
    assert memory(alone, work, 1) == memory(config, work, 1)
    assert any("loop.sharded=true" in note for note in plan_of(alone).notes)


@pytest.mark.slow
def test_of_a_lora_in_shards_all_is_cut(config):
    lora = setting(setting(config, "tune", mode="lora"), "loop", sharded=True)
    weights = measure(lora).weights
    training = memory(lora, measure(lora), 2)["training"]
    assert training["policy, float32"] == -(-weights.base // 2)
    assert training["LoRA, float32"] == training["reference's own weights"] == weights.lora / 2
    # frozen weights are gathered and have no gradients
    assert weights.lora < training[GATHERED] < 1.5 * (weights.outside.weights + 2 * weights.block.weights)


@pytest.mark.slow
def test_an_offloaded_reference_is_there_while_it_predicts(config, work):
    offloaded = setting(config, "loop", offload_reference=True)
    phases, whole = memory(offloaded, work, 1), memory(config, work, 1)
    name, size = "reference's own weights", work.weights.reference
    assert size == whole["training"][name] == 4 * work.weights.trained
    assert all(name not in phases[phase] for phase in ("training", "optimizer step"))
    assert phases["reference's errors"][name] == phases["generation"][name] == size
    assert sum(whole["training"].values()) - sum(phases["training"].values()) == size
    plan = plan_of(offloaded)
    assert plan.host - plan_of(config).host == size
    assert plan.host_at_start - plan.host == sum(work.weights.texts.values()) > 0
    assert any("loop.offload_reference" in note for note in plan.notes)
    # a pass over a winner and its sample without gradient: that of two samples that are drawn at once
    two = setting(config, "reference_samples", batch_size=2, guidance_scale=1.0)
    assert work.reference_peak == pytest.approx(measure(two).denoising.peak, rel=0.1)
    assert work.reference_peak < work.steps[True].peak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "entries"),
    [
        (SeppoConfig(), 7),
        # those of the newest checkpoints are needed if the last one is damaged
        (SeppoConfig(pool_window=1), 3),
        (SeppoConfig(pool_window=6), 7),
        (SeppoConfig(reference="initial"), 1),
        (SftConfig(), 0),
    ],
    ids=["all", "one", "six", "initial", "sft"],
)
def test_disk_of_the_pool_is_what_train_asks_for(config, method, entries):
    config = replace(setting(config, "loop", iterations=7), method=method)
    adapter = load(config)
    tune(adapter, config)
    asked = run_bytes(config, trainable_parameters(adapter.denoiser).values(), 4 * 4 * 8 * 8)
    disk = plan_of(config).disk
    assert disk.pool == asked["snapshots of the pool"]
    weights = sum(p.nbytes for p in trainable_parameters(adapter.denoiser).values())
    assert (disk.pool, disk.samples) == (entries * weights, asked["reference samples"])


@pytest.mark.slow
def test_cures_name_shards_or_the_cpu(config, work):
    needed = peak(memory(config, work, 1), prepare=False)
    small = replace(GPUS["a10"], memory_gib=(needed - work.weights.reference / 2) / GIB)
    fits, _ = cures(config, work, small, 1)
    assert fits.startswith("it fits A10") and fits.endswith("after loop.offload_reference: true")
    needed = peak(memory(config, work, 8), prepare=False)
    small = replace(GPUS["a10"], memory_gib=(needed - work.weights.reference) / GIB)
    fits, _ = cures(config, work, small, 8)
    assert fits.startswith("it fits A10") and fits.endswith("after loop.sharded: true")
    # shards want bfloat16 and plain moments, and all that is changed for them is said
    half = setting(setting(config, "loop", mixed_precision="fp16"), "optimizer", name="adamw8bit")
    fits, _ = cures(half, work, replace(small, memory_gib=1 + 0.7 * (needed - CONTEXT) / GIB), 8)
    assert all(word in fits for word in ("sharded: true", "mixed_precision: bf16", "optimizer.name: adamw"))
    old = replace(small, bfloat16=False)
    assert "sharded" not in cures(half, work, old, 8)[0]


@pytest.mark.slow
def test_every_phase_that_is_too_large_is_eased(config):
    config = replace(config, preview=PreviewConfig(prompts=("a wall",), per_prompt=40, steps=2))
    config = setting(config, "loop", gradient_checkpointing=False, micro_batch_size=2)
    work = measure(config)
    phases = memory(config, work, 1)
    # the previews are the peak, and what eases training does not touch them
    assert peak(phases) == max(sum(phases[name].values()) for name in ("previews", "decoding"))
    eased = setting(config, "loop", gradient_checkpointing=True)
    allowed = (sum(memory(eased, work, 1)["training"].values()) + sum(phases["training"].values())) // 2
    fits, _ = cures(config, work, replace(GPUS["a10"], memory_gib=allowed / GIB), 1)
    assert fits.startswith("it fits A10")
    assert "loop.gradient_checkpointing: true" in fits and "preview.batch_size: 1" in fits


@pytest.mark.slow
def test_previews_take_as_much_as_samples_of_their_number(config):
    p = PreviewConfig(prompts=("a wall",), per_prompt=3, steps=2, guidance_scale=2.0)
    # in full precision, for autocast keeps its copies of weights that are trained
    config = setting(replace(config, preview=p), "loop", mixed_precision="no")
    config = setting(config, "reference_samples", batch_size=3, guidance_scale=2.0)
    work = measure(config)
    assert work.previewing.peak == pytest.approx(work.denoising.peak, rel=0.01) and work.previews_guided
    phases = memory(config, work, 1)
    assert phases["previews"]["activations"] == work.previewing.peak
    plain = measure(setting(config, "preview", guidance_scale=1.0))
    assert not plain.previews_guided and plain.previewing.flops * 2 == work.previewing.flops


def held_by_prepare(config, work, batch: int) -> int:
    return sum(preparing(config, work, batch).values())


@pytest.mark.slow
def test_prepare_is_planned_for_the_batch_that_it_comes_down_to(config, work, monkeypatch):
    assert config.data.encode_batch_size == 8
    # a picture takes what it takes, however many come with it
    four = setting(config, "data", encode_batch_size=4)
    assert held_by_prepare(config, work, 4) == pytest.approx(held_by_prepare(four, measure(four), 4), rel=0.01)
    # room for all of it, for five at once, and for less than one
    assert memory(config, work, 1, held_by_prepare(config, work, 8))["prepare"] == memory(config, work, 1)["prepare"]
    five = held_by_prepare(config, work, 5)
    assert memory(config, work, 1, five)["prepare"] == preparing(config, work, 4)
    assert memory(config, work, 1, CONTEXT)["prepare"] == preparing(config, work, 1)
    # a GPU whose room training does not need
    big = setting(config, "data", height=512, width=512, cache="not there")
    planned = measure(big)
    room = held_by_prepare(big, planned, 3)
    assert room > peak(memory(big, planned, 1), prepare=False)
    monkeypatch.setitem(GPUS, "t4", replace(GPUS["a10"], memory_gib=room / GIB))
    plan = plan_of(big, gpu="t4")
    assert plan.fits and plan.encode_batch_size == 2
    assert any("reduces it to 2" in note for note in plan.notes)


@pytest.mark.slow
def test_a_vae_that_takes_parts_gains_nothing_from_smaller_batches(config, work):
    parted = replace(work, encoding_one=work.encoding)
    assert preparing(config, parted, 1) == preparing(config, parted, 8) == preparing(config, work, 8)
