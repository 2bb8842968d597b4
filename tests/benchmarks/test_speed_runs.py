"""The speed benchmark's own parts beside the trainer, plan and plain counting; and runs of it on small models."""

import json
import signal
import subprocess
import sys
import time
from itertools import repeat
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from safetensors.torch import load_file

from benchmarks.experiments.speed import kernels
from benchmarks.experiments.speed import main as speed
from benchmarks.experiments.speed.bench import Bench, Stage, Unavailable, choose_tune
from benchmarks.experiments.speed.main import NAMES
from benchmarks.experiments.speed.models import (
    Subject,
    encoding_adapter,
    find_subject,
    known_bases,
    with_weights,
)
from benchmarks.experiments.speed.updates import METHODS, passes
from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.task.bases import image_base, motion_adapter, video_base
from seppo_core.cache.reader import WinnerCache
from seppo_core.config.schema import TuneConfig
from seppo_core.config.training import OptimizerConfig
from seppo_core.plan.build import build_adapter
from seppo_core.plan.counter import Counter
from seppo_core.training.batches import BatchMaker, WinnerOrder
from seppo_image import commands
from tests.contract.rows import FAMILIES as ROWS

CPU = torch.device("cpu")


def first_fast(values) -> list:
    """The first value for every run, the others for `make test-all`."""
    first, *others = values
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]


def toy(batch: int = 2, **changes) -> Subject:
    return find_subject(str(image_base()), height=32, batch=batch, **changes)


def test_bases_are_found_by_the_last_part_of_their_name():
    found = find_subject("stable-diffusion-v1-5")
    assert (found.family, found.size, found.batch, found.wanted_tune) == ("stable-diffusion", "512 x 512", 4, "full")
    found = find_subject("Stable-Diffusion-XL-Base-1.0", frames=8)
    assert (found.family, found.motion_adapter) == ("animatediff-sdxl", "guoyww/animatediff-motion-adapter-sdxl-beta")
    assert (found.size, found.batch, found.wanted_tune) == ("8 x 256 x 256", 2, "lora")
    found = find_subject(str(video_base()), motion=str(motion_adapter()), height=32, frames=8)
    assert (found.family, found.frames) == ("animatediff", 8)
    assert find_subject("Wan2.1-T2V-1.3B-Diffusers", height=480, width=832).size == "17 x 480 x 832"
    assert {"stable-diffusion-v1-5/stable-diffusion-v1-5", "Lightricks/LTX-Video"} <= set(known_bases())


@pytest.mark.parametrize("name", first_fast(known_bases()))
def test_random_weights_have_the_names_and_shapes_of_plan(name):
    """Of every published base whose numbers are shipped, at full size and without memory."""
    subject = find_subject(name)
    adapter = build_adapter(subject.config("lora"), torch.bfloat16)
    made = with_weights(adapter.denoiser, torch.device("meta"))
    assert [(n, p.shape, p.dtype) for n, p in made.named_parameters()] == [
        (n, p.shape, p.dtype) for n, p in adapter.denoiser.named_parameters()
    ]
    assert adapter.latent_shape(subject.height, subject.width, subject.frames)


@pytest.mark.parametrize("row", first_fast(ROWS), ids=lambda row: row.name)
def test_every_family_runs_from_its_numbers_alone(row, tmp_path):
    """Built of the *.json files of a saved pipeline; one update, a sample's condition, and the encoders."""
    row.pipeline(tmp_path / "words").save_pretrained(tmp_path / "base")
    for file in (tmp_path / "base").rglob("*.safetensors"):
        file.unlink()
    height, width = row.size
    frames = row.frames if len(row.latent_shape) == 4 else None
    subject = find_subject(str(tmp_path / "base"), height=height, width=width, frames=frames, batch=1)
    bench = Bench(subject, "lora", "fp32", CPU)
    assert type(bench.adapter) is type(row.adapter(tmp_path / "again"))
    assert bench.shape == row.latent_shape
    method = bench.method("seppo")
    batch = bench.batch(method, 2)
    assert bench.update(method, [batch])
    encoder = encoding_adapter(bench.config, torch.float32, CPU)
    told = encoder.encode_prompts(["a red wall", "a blue one"])
    assert {name: value.shape for name, value in told.items()} == {name: batch.condition[name].shape for name in told}
    clip = (subject.frames,) if subject.modality == "video" else ()
    assert encoder.encode(torch.zeros(1, 3, *clip, height, width)).mean.shape[1:] == bench.shape


@pytest.mark.parametrize("mode", first_fast(["full", "lora"]))
def test_an_update_is_the_trainer_s(mode, workshop, tmp_path):
    """The same base, batches and settings: after an iteration of `train` and as many updates here, the same weights."""
    tune, optimizer = TuneConfig(mode=mode, rank=2), OptimizerConfig(lr=1e-3)
    config = workshop.config(tmp_path / "run", mode, "sft", tune=tune, optimizer=optimizer)
    commands.train(config)
    subject = find_subject(str(workshop.base), height=64, batch=4, tune=mode, rank=2)
    bench = Bench(subject, mode, "fp32", CPU)
    base = load_file(workshop.base / "unet" / "diffusion_pytorch_model.safetensors")
    with torch.no_grad():
        for name, parameter in bench.policy.named_parameters():
            if "lora_" not in name:
                parameter.copy_(base[name.replace(".base_layer.", ".")])
    for group in bench.optimizer.param_groups:
        group["lr"] = 1e-3
    bench.stepper.schedule.base_lrs = [1e-3]
    cache = WinnerCache(workshop.cache)
    maker = BatchMaker(
        cache=cache, order=WinnerOrder(len(cache), 0), noise_path=bench.noise_path, seed=0, batch_size=4,
        caption_dropout=0.3, flip=True,
    )  # fmt: skip
    method = bench.method("sft")
    for update in range(6):
        bench.update(method, [maker.make(update, part, None, CPU) for part in (range(2), range(2, 4))], 2)
    trained = load_file(tmp_path / "run" / "checkpoints" / "update-000006" / "policy.safetensors")
    found = {name: parameter.detach() for name, parameter in bench.parameters.items()}
    assert found.keys() == trained.keys()
    moved = max((trained[name] - base[name]).abs().max() for name in trained) if mode == "full" else None
    assert mode == "lora" or moved > 1e-3
    for name, value in trained.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("mode", first_fast(["full", "lora"]))
def test_passes_are_what_counting_flops_gives(mode):
    """Of an update of each method, over supervised fine-tuning's."""
    bench = Bench(toy(), mode, "fp32", CPU)
    flops = {}
    for name in METHODS:
        method = bench.method(name)
        batch = bench.batch(method, 2)
        bench.update(method, repeat(batch))
        with Counter(()) as counter:
            bench.update(method, repeat(batch))
        flops[name] = counter.flops
    for name in METHODS:
        counted = passes(bench.method(name), mode) / passes(bench.method("sft"), mode)
        assert flops[name] / flops["sft"] == pytest.approx(counted, rel=0.06), name


def test_what_is_trained_follows_the_memory(monkeypatch):
    monkeypatch.setattr("benchmarks.experiments.speed.bench.free_memory", lambda device: 10 * 1024**3)
    subject = find_subject("stable-diffusion-v1-5")
    mode, why = choose_tune(subject, "fp32", CPU)
    # 859,520,964 weights of 20 bytes
    assert mode == "lora" and "16.0 GiB of the 10.0 that are free" in why
    with pytest.raises(ValueError, match="try --tune lora"):
        choose_tune(find_subject("stable-diffusion-v1-5", tune="full"), "fp32", CPU)
    with pytest.raises(ValueError, match="try --dtype bf16"):
        choose_tune(find_subject("FLUX.1-dev", tune="lora"), "fp32", CPU)
    monkeypatch.setattr("benchmarks.experiments.speed.bench.free_memory", lambda device: 30 * 1024**3)
    assert choose_tune(subject, "fp32", CPU) == ("full", "")


@pytest.mark.slow
def test_a_bench_is_kept_as_long_as_it_fits(tmp_path):
    stage = Stage(toy(), "full", CPU, "fp32", 2, tmp_path)
    first = stage.bench()
    assert stage.bench() is first and stage.bench(precision="bf16") is first and first.precision == "bf16"
    assert stage.bench().precision == "fp32"
    view = stage.bench("lora")
    assert view is not first and view.mode == "lora"
    assert stage.bench("lora", "bf16") is not view


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_blocks_stand_in_for_policy_and_reference(tmp_path, mode):
    """Through torch's own tracing; what a backend makes of the graphs is its own."""
    stage = Stage(toy(batch=1), mode, CPU, "fp32", 2, tmp_path)
    with pytest.raises(Unavailable, match="--only compile"):
        kernels.compiled(stage)
    stage.named = True
    prepared = kernels.compiled(stage, "eager")
    bench, seen = stage.bench(), []
    bench.step = lambda watched: seen.append(float(watched["loss"]))
    graphs = []
    for variant in prepared.variants:
        bench.optimizer.zero_grad()
        variant.before()
        variant.run()
        seen.append({name: p.grad.clone() for name, p in bench.parameters.items()})
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    loss, gradients, compiled_loss, compiled_gradients = seen
    assert graphs[1] > graphs[0] and compiled_loss == loss
    assert all(torch.equal(compiled_gradients[name], gradient) for name, gradient in gradients.items())
    prepared.close()


def test_policy_and_reference_switch_their_attention_and_back(monkeypatch, tmp_path):
    """With unfused attention in the place of xformers, which no CPU has: the same losses, by other processors."""
    monkeypatch.setattr(
        kernels, "set_attention", lambda adapter, *_: adapter.denoiser.set_attn_processor(AttnProcessor())
    )
    stage = Stage(toy(), "full", CPU, "fp32", 2, tmp_path)
    prepared = kernels.attention(stage)
    bench, losses = stage.bench(), {}
    with bench.reference.active() as frozen:
        models = [bench.policy, frozen]
    kinds = lambda: {type(p) for model in models for p in model.attn_processors.values()}  # noqa: E731
    for variant in prepared.variants:
        variant.before()
        assert kinds() == {AttnProcessor if variant.name == "xformers" else AttnProcessor2_0}
        bench.step = lambda step, name=variant.name: losses.update({name: float(step["loss"])})
        variant.run()
    assert list(losses) == ["SDPA, its own choice", "SDPA, unfused (math)", "SDPA, flash", "xformers"]
    assert list(losses.values()) == pytest.approx([losses["xformers"]] * 4, rel=1e-4)
    assert [one.name for one in prepared.left] == ["SDPA, memory-efficient", "SDPA, cuDNN"]
    prepared.close()
    assert kinds() == {AttnProcessor2_0}


def small(out: Path, *names: str, rounds: int = 2, batch: int = 2) -> tuple[int, dict]:
    base = ["--base", str(image_base()), "--height", "32", "--batch", str(batch), "--device", "cpu"]
    line = [*base, "--rounds", str(rounds), "--warmup", "1", "--sampling-steps", "2", "--out", str(out)]
    status = speed.main([*line, "--only", *names] if names else line)
    return status, json.loads((out / "report.json").read_text(encoding="utf-8"))


def check(report: dict) -> None:
    """What holds of any report, whatever was slow in it."""
    assert (report["format"], report["kind"]) == (1, "seppo-speed-report")
    assert {"commit", "command", "processor", "torch", "device"} <= report["provenance"].keys()
    for result in report["results"]:
        assert result["variants"] or result["left"]
        for place, one in enumerate(result["variants"]):
            low, high = one["ratio"]["interval"]
            assert 0 < low <= one["ratio"]["median"] <= high
            assert place or one["ratio"]["median"] == low == high == 1
            assert len(one["rounds"]) == result["rounds"] and one["milliseconds"]["median"] > 0
            assert one["memory"] is None or one["memory"]["peak"] > one["memory"]["held"] > 0
        assert all(one["reason"] and not one["failed"] for one in result["left"])


@pytest.mark.slow
def test_what_cannot_be_measured_is_told(tmp_path, capsys):
    status, report = small(tmp_path, "attention", "optimizer", "offload", "precision", rounds=1)
    assert status == 0 and not report["partial"]
    left = {one["name"]: one["reason"] for result in report["results"] for one in result["left"]}
    assert "needs CUDA" in left["xformers"] and "needs CUDA" in left["SDPA, cuDNN"] and "CUDA" in left["fp16 autocast"]
    assert "nothing to move" in left["offload"]
    assert "CUDA" in left["optimizer"] or "bitsandbytes" in left["optimizer"]
    shown = capsys.readouterr().out
    assert "## Not measured" in shown
    assert all(reason in shown for reason in left.values())


@pytest.mark.slow
def test_recomputed_activations_are_not_held(tmp_path):
    # at so many pairs that activations, and not gradients, are what an update needs most of
    _, report = small(tmp_path, "checkpointing", batch=16)
    (found,) = report["results"]
    held = {one["name"]: one["memory"] for one in found["variants"]}
    assert held["gradient checkpointing"]["made"] < held["kept activations"]["made"]


@pytest.mark.slow
def test_all_of_it_in_small(tmp_path, capsys):
    status, report = small(tmp_path, *[name for name in NAMES if name not in ("compile", "layout")])
    assert status == 0 and not report["partial"]
    check(report)
    measured = {result["comparison"]: result for result in report["results"]}
    assert measured.keys() == NAMES.keys() - {"compile", "layout"}
    assert [one["name"] for one in measured["methods"]["variants"]] == list(METHODS)
    assert [one["name"] for one in measured["accumulation"]["variants"]] == ["micro-batches of 1", "micro-batches of 2"]
    assert len(measured["parts"]["variants"]) == 6 and "add up to" in measured["parts"]["remarks"][0]
    held = {one["name"]: one["memory"]["held"] for one in measured["methods"]["variants"]}
    assert held["sft"] < held["mapo"] < held["dpo"] == held["seppo"]
    assert any("waiting for a batch" in remark for remark in measured["loader"]["remarks"])
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out and "| sft | 1 |" in text and "range (50 %)" in text
    assert not list(tmp_path.glob(".speed-*"))


@pytest.mark.slow
def test_the_default_runs_two_bases(tmp_path):
    line = ["--only", "checkpointing", "--device", "cpu", "--rounds", "1", "--warmup", "1", "--out", str(tmp_path)]
    assert speed.main(line) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    check(report)
    assert [result["subject"] for result in report["results"]] == [
        "toy images, 32 x 32, batch 8, all weights, fp32", "toy clips, 8 x 32 x 32, batch 2, LoRA of rank 16, fp32",
    ]  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_leaves_a_report_of_what_was_measured(tmp_path):
    command = [
        sys.executable, "-m", "benchmarks", "speed", "--base", str(image_base()), "--height", "32", "--batch", "2",
        "--only", "anchor", "methods", "--device", "cpu", "--rounds", "1000", "--warmup", "1", "--out", str(tmp_path),
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + 200
        while "methods" not in (tmp_path / "log").read_text() and time.monotonic() < until:
            time.sleep(0.1)
        # some rounds of the first comparison
        time.sleep(6)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, (tmp_path / "log").read_text()[-2000:]
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["partial"]
    shown = (tmp_path / "log").read_text()
    assert "speed: stopped" in shown.splitlines()[-1] and "Traceback" not in shown
    assert "broken off" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.gpu
def test_cuda_default_in_small(tmp_path):
    """The bases, sizes and comparisons that CUDA gets by default, but few rounds, steps and items."""
    line = ["--device", "cuda", "--rounds", "2", "--warmup", "1", "--batch", "2", "--sampling-steps", "2"]
    names = [name for name in NAMES if name != "compile"]
    assert speed.main([*line, "--out", str(tmp_path), "--only", *names]) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    check(report)
    assert {result["comparison"] for result in report["results"]} == set(names)
    memory = [one["memory"] for result in report["results"] for one in result["variants"] if one["memory"]]
    assert memory and all(one["allocated"] >= one["held"] for one in memory if one["held"])
