"""The plain way beside ours: it computes the same loss, and its table says what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.__main__ import main
from benchmarks.experiments.speed import main as speed
from benchmarks.experiments.speed import plain_published, plain_run, session
from benchmarks.experiments.speed.bench import Bench
from benchmarks.experiments.speed.feeding import stand_in_cache
from benchmarks.experiments.speed.models import default_subjects, find_subject, known_bases
from benchmarks.experiments.speed.plain import Bare, Marks, Ours, Plain
from benchmarks.experiments.speed.published import PUBLISHED, Published
from benchmarks.experiments.speed.runner import OUT_OF_MEMORY
from benchmarks.experiments.toy.task.bases import image_base
from seppo_image.config import ImageData
from seppo_video.config import VideoData

ROOT = Path(__file__).parents[2]


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


def test_every_known_base_is_published_at_its_recipe_s_size():
    sizes = {}
    for file in (ROOT / "configs").glob("*/*.yaml"):
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        data, clip = config["data"], file.parent.name == "video"
        usual = (VideoData if clip else ImageData)(source="", cache="")
        height = data.get("height", usual.height)
        size = (height, data.get("width", height), data.get("frames", usual.frames))
        sizes[config["model"]["base"].rpartition("/")[2], clip] = size if clip else size[:2]
    found = {(one.base, len(one.size) == 3): one.size for one in PUBLISHED.values()}
    assert len(found) == len(PUBLISHED) and {base for base, _ in found} == {
        name.rpartition("/")[2] for name in known_bases()
    }
    recipes = {base: size for base, size in sizes.items() if base in found}
    assert len(recipes) >= 15 and recipes == {base: found[base] for base in recipes}


def test_families_come_before_their_further_bases():
    families, further = [], False
    for one in PUBLISHED.values():
        family = find_subject(one.base, frames=one.size[2] if len(one.size) == 3 else None).family
        assert one.again is (family in families) and (one.again or not further)
        families.append(family)
        further = one.again
    assert PUBLISHED["ltx"].options() == ("--base", "LTX-Video", "--height", "512", "--width", "704", "--frames", "97")


@pytest.fixture
def table(monkeypatch):
    """Two bases in small, and one that a CPU does not measure."""
    small = Published(str(image_base()), (512, 512), on_cpu=(32, 32))
    rows = {"one": small, "large": Published(str(image_base()), (32, 32)), "two": replace(small, on_cpu=(24, 32))}
    for module in (plain_published, speed, session):
        monkeypatch.setattr(module, "PUBLISHED", rows)
    return rows


def published(tmp_path, *more: str) -> tuple[int, list[dict]]:
    code = main(["speed", "--plain", "--published", *more, "--device", "cpu", "--out", str(tmp_path)])
    return code, [json.loads(file.read_text()) for file in sorted(tmp_path.glob("plain-*.json"))]


def test_published_bases_are_measured_in_turn_and_written_at_once(table, tmp_path, monkeypatch, capsys):
    began, recomputed = [], []
    file = next((ROOT / "benchmarks" / "results" / "speed").glob("plain-toy-images*.json"))
    real = json.loads(file.read_text(encoding="utf-8"))["result"]

    def compare(stage, described, rounds, warmup):
        began.append((stage.subject.size, stage.subject.tune, stage.subject.batch, len(list(tmp_path.glob("*.json")))))
        if stage.subject.size == "24 x 32":
            raise torch.OutOfMemoryError("no room")
        return real | {"subject": described}

    monkeypatch.setattr(plain_run, "compare", compare)
    monkeypatch.setattr(plain_published, "plain_peak", lambda *given: recomputed.append(given[2]) or 0)
    code, written = published(tmp_path)
    assert code == 1 and [one["result"]["subject"].split(",")[1] for one in written] == [" 32 x 32"]
    assert began == [("32 x 32", "lora", 1, 0), ("24 x 32", "lora", 1, 1)]
    said = capsys.readouterr().out
    assert "not measured: large: a CPU takes more than minutes" in said
    assert f"24 x 32, batch 1, LoRA of rank 16, fp32: {OUT_OF_MEMORY}" in said
    began.clear()
    assert published(tmp_path, "one")[0] == 0 and [one[0] for one in began] == ["32 x 32"]
    published(tmp_path, "one", "--gradient-checkpointing")
    assert recomputed == [False, False, False, True]


def test_what_does_not_fit_is_listed_with_its_reason(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plain_published, "free_memory", lambda device: 2**20)
    assert published(tmp_path, "one") == (0, [])
    assert "not measured: one: the plain way takes" in (said := capsys.readouterr().out)
    assert "at 32 x 32, of the 0.0 that are free on the cpu" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--published"], "--published goes with --plain"),
        (["--plain", "--published", "--height", "64"], "--height does not go with --published"),
        (["--plain", "--published", "--tune", "full"], "leave out --tune full"),
        (["--plain", "--published", "nothing"], "has no nothing; it takes sd15, sdxl"),
        (["--gradient-checkpointing"], "--gradient-checkpointing goes with --plain"),
    ],
)
def test_mistakes_with_published_bases(words, said, capsys):
    with pytest.raises(SystemExit):
        main(["speed", *words])
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_plain_peak_is_what_is_counted(bench):
    """`plan`'s count beside the tensors that an update of the plain way has alive."""
    way = Plain(bench, bench.subject.batch, Marks())
    counted = []
    for recomputed in (False, True):
        if recomputed:
            bench.policy.enable_gradient_checkpointing()
        way.update()
        counted.append(plain_run._memory(bench, way, bench.device)["peak"])
        assert plain_published.plain_peak(bench.subject, "fp32", recomputed) == pytest.approx(counted[-1], rel=0.25)
    assert counted[1] < 0.8 * counted[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tune", "more", "passes"),
    [
        # a LoRA's backward pass costs about a forward one, that of all weights two, and recomputing one more
        ("lora", [], {"dpo": 6, "sft": 2}),
        ("lora", ["--gradient-checkpointing"], {"dpo": 8, "sft": 3}),
        ("full", [], {"dpo": 8, "sft": 3}),
    ],
)
def test_a_run_of_it_says_what_was_measured(tmp_path, capsys, monkeypatch, tune, more, passes):
    out = tmp_path / "out"
    update, recomputes = Plain.update, set()
    watched = lambda way: recomputes.add(way.bench.policy.is_gradient_checkpointing) or update(way)  # noqa: E731
    monkeypatch.setattr(Plain, "update", watched)
    assert main(["speed", "--plain", "--tune", tune, "--batch", "1", "--rounds", "2", "--out", str(out), *more]) == 0
    assert recomputes == {bool(more)}
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
        assert one["passes"] == passes
        assert said["dpo_over_sft_bound"]["flops"] == pytest.approx(passes["dpo"] / passes["sft"], rel=0.1)
        assert one["subject"].endswith("activations recomputed") == bool(more)
        assert said["arithmetic"]["median"] > 1 and said["arithmetic"]["median"] < said["bound"] + 0.5
        assert said["share_of_bound"] == pytest.approx(said["step_ratio"]["median"] / said["bound"])
        for name in ("ours", "plain", "bare", "sft"):
            rounds = one["updates"][name]
            assert len(rounds) == 2
            parts = {"policy forward", "backward", "optimiser"} | ({"reference"} if name != "sft" else set())
            assert all(split[part] > 0 for split in rounds for part in parts)
            assert 0 < said["utilisation"][name] < 1.2
    assert "of the plain way's" in capsys.readouterr().out
