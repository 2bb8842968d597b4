"""The plain way beside ours: it computes the same loss, and its table says what was measured."""

import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.experiments.speed.bench import Bench
from benchmarks.experiments.speed.models import default_subjects
from benchmarks.experiments.speed.plain import Marks, Ours, Plain


def test_both_ways_compute_the_same_loss():
    bench = Bench(default_subjects(cuda=False)[0], "lora", "fp32", torch.device("cpu"))
    ours, plain = Ours(bench, 2, Marks()), Plain(bench, 2, Marks())
    # a policy that has moved away from its reference
    generator = torch.Generator().manual_seed(0)
    for parameter in bench.parameters.values():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    batch = bench.batch(ours.method, 2)
    noise = torch.cat([batch.noise, batch.counterpart_noise])
    theirs = plain.loss(torch.cat([batch.x0, batch.counterpart]), noise, batch.t, batch.condition)
    # ours: the base is the reference, whose LoRA gives nothing
    state = {name: torch.zeros_like(p) for name, p in bench.parameters.items()}
    bench.reference.load(state)
    mine, _ = ours.method.loss(bench.adapter, bench.policy, ours.reference, batch, {})
    mine, theirs = mine.item(), theirs.item()
    assert abs(mine - 0.6931) > 1e-4
    assert theirs == pytest.approx(mine, rel=1e-4)


@pytest.mark.slow
def test_a_run_of_it_says_what_was_measured(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["speed", "--plain", "--tune", "lora", "--batch", "1", "--rounds", "1", "--out", str(out)]) == 0
    results = json.loads((out / "plain.json").read_text())["results"]
    assert [one["subject"].split(",")[0] for one in results] == ["toy images", "toy clips"]
    for one in results:
        # VAE and text encoders come on top, and a second copy of the denoiser
        assert one["bound"] > 1 and one["flops"]["plain"] > one["flops"]["ours"]
        assert one["memory"]["plain"]["held"] > one["memory"]["ours"]["held"]
        assert one["share_of_bound"] == pytest.approx(one["step_ratio"]["median"] / one["bound"])
        for name in ("ours", "plain"):
            split = one["splits"][name]
            assert all(split[part] > 0 for part in ("reference", "policy forward", "backward", "optimiser"))
            assert sum(split.values()) == pytest.approx(one["update_seconds"][name], rel=0.01)
            assert 0 < one["utilisation"][name] < 1
    assert "| of the bound |" in capsys.readouterr().out
