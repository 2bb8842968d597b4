"""The plain way beside ours: it computes the same loss, and its table says what was measured."""

import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.experiments.speed.bench import Bench
from benchmarks.experiments.speed.feeding import stand_in_cache
from benchmarks.experiments.speed.models import default_subjects
from benchmarks.experiments.speed.plain import Bare, Marks, Ours, Plain


@pytest.fixture
def bench() -> Bench:
    return Bench(default_subjects(cuda=False)[0], "lora", "fp32", torch.device("cpu"))


def test_both_ways_compute_the_same_loss(bench, tmp_path):
    cache = stand_in_cache(tmp_path / "cache", bench, 4, "pairs")
    ours, plain = Ours(bench, 2, Marks(), cache), Plain(bench, 2, Marks())
    # a policy that has moved away from its reference
    generator = torch.Generator().manual_seed(0)
    for parameter in bench.parameters.values():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    batch = ours.maker.make(0, range(2), None, bench.device)
    noise = torch.cat([batch.noise, batch.counterpart_noise])
    theirs = plain.loss(torch.cat([batch.x0, batch.counterpart]), noise, batch.t, batch.condition)
    # ours: the base is the reference, whose LoRA gives nothing
    state = {name: torch.zeros_like(p) for name, p in bench.parameters.items()}
    bench.reference.load(state)
    mine, _ = ours.method.loss(bench.adapter, bench.policy, ours.reference, batch, {})
    mine, theirs = mine.item(), theirs.item()
    assert abs(mine - 0.6931) > 1e-4
    assert theirs == pytest.approx(mine, rel=1e-4)


def test_the_bare_step_is_the_trainer_s(bench):
    """Clipped and stepped by torch's own means, the weights become what `Stepper` makes of the same gradients."""
    plain = Plain(bench, 1, Marks())
    bare = Bare(plain)
    began = {name: p.detach().clone() for name, p in bench.parameters.items()}
    bare.update()
    bare_ends = {name: p.detach().clone() for name, p in bench.parameters.items()}
    bench.optimizer.state.clear()
    for name, p in bench.parameters.items():
        p.data.copy_(began[name])
    loss = plain.loss(bare.latents, bare.noise, bare.t, bare.condition)
    bench.backward(loss)
    bench.step({"loss": loss.detach()})
    assert any(not torch.equal(p, began[name]) for name, p in bench.parameters.items())
    assert all(torch.equal(p, bare_ends[name]) for name, p in bench.parameters.items())


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_a_run_of_it_says_what_was_measured(tmp_path, capsys, tune):
    out = tmp_path / "out"
    assert main(["speed", "--plain", "--tune", tune, "--batch", "1", "--rounds", "2", "--out", str(out)]) == 0
    results = [json.loads(file.read_text())["result"] for file in sorted(out.glob("plain-*.json"))]
    assert [one["subject"].split(",")[0] for one in results] == ["toy clips", "toy images"]
    for one in results:
        said, flops = one["summary"], one["flops"]["update"]
        # VAE and text encoders come on top, and a second copy of the denoiser
        assert said["bound"] > 1 and flops["plain"] > flops["ours"]
        memory = one["memory"]
        assert sum(size for part, size in memory["plain"]["parts"].items() if part != "policy") > 0
        for name in ("ours", "plain"):
            assert sum(memory[name]["parts"].values()) == memory[name]["peak"]
            assert memory[name]["parts"]["activations"] > 0
        held = {name: memory[name]["parts"]["reference"] for name in ("ours", "plain")}
        assert held["ours"] < held["plain"] / 2 if tune == "lora" else held["ours"] == pytest.approx(held["plain"], 0.1)
        # a LoRA's backward pass costs about a forward one, that of all weights two: 6 to 2, and 8 to 3
        assert one["passes"] == ({"dpo": 6, "sft": 2} if tune == "lora" else {"dpo": 8, "sft": 3})
        assert said["dpo_over_sft_bound"]["flops"] == pytest.approx(3 if tune == "lora" else 8 / 3, rel=0.1)
        assert said["arithmetic"]["median"] > 1 and said["arithmetic"]["median"] < said["bound"] + 0.5
        assert said["share_of_bound"] == pytest.approx(said["step_ratio"]["median"] / said["bound"])
        for name in ("ours", "plain", "bare", "sft"):
            rounds = one["updates"][name]
            assert len(rounds) == 2
            parts = {"policy forward", "backward", "optimiser"} | ({"reference"} if name != "sft" else set())
            assert all(split[part] > 0 for split in rounds for part in parts)
            assert 0 < said["utilisation"][name] < 1.2
    assert "of the plain way's" in capsys.readouterr().out
