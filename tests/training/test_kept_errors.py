"""loop.reference_draws: draws that come again, and a reference's errors and samples that are kept for them."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.method import MethodConfig
from seppo_core.config.methods.dpo import DpoConfig
from seppo_core.config.methods.dro import DroConfig
from seppo_core.config.methods.kto import KtoConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.io.rng import keyed_stream
from seppo_core.methods.reference import FrozenCopy, LoraView
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.run.checkpoint import CheckpointFolder, load_policy
from seppo_core.run.history import read_events, read_metrics
from seppo_core.training.batches import WinnerOrder
from seppo_core.training.reference_samples import ReferenceSamples
from seppo_core.training.sample_buffer import SampleBuffer
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from tests.dying import killed_before_update
from tests.training.forms import config_of
from tests.training.judged_runs import watched
from tests.training.test_processes import trained

ITEMS, BATCH, UPDATES = 10, 4, 6
TIMES = ("seconds", "data_seconds", "samples_per_second")


def kept(config, draws: int | None = 1, **loop):
    return replace(config, loop=replace(config.loop, reference_draws=draws, **loop))


def lines(run: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in TIMES} for line in read_metrics(run)]


def assert_same(run: Path, other: Path) -> None:
    a, b = (load_policy(CheckpointFolder(one / "checkpoints").latest()) for one in (run, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert lines(run) == lines(other)


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 5))
def test_each_draw_comes_once_in_every_so_many_epochs(length, repeats, seed):
    order = WinnerOrder(length, seed)
    size = length * repeats
    for first in range(0, 3 * size, size):
        sources = [order.source(position, repeats) for position in range(first, first + size)]
        assert sorted(sources) == list(range(size))
        assert [order.item(source) for source in sources] == [order.item(first + i) for i in range(size)]
    assert [order.source(position, repeats) for position in range(size)] == list(range(size))


def direct_errors(adapter, x_0, noise, t, condition) -> torch.Tensor:
    """‖ε − ε(x_t, t, c)‖² of the base, item by item, in the scheduler's own words."""
    found = []
    for i in range(len(x_0)):
        x_t = adapter.scheduler.add_noise(x_0[i : i + 1], noise[i : i + 1], t[i : i + 1].long())
        text = condition["text"][i : i + 1]
        with torch.no_grad():
            predicted = adapter.denoiser(x_t, t[i : i + 1], encoder_hidden_states=text).sample
        found.append((predicted - noise[i : i + 1]).double().square().mean())
    return torch.stack(found)


CASES = {
    "dpo": (DpoConfig(beta=50), "full"),
    "kto": (KtoConfig(beta=50), "lora"),
    "seppo": (SeppoConfig(beta=50, reference="initial", anchor_draws=2), "lora"),
}


@pytest.mark.parametrize("name", ["seppo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dpo", "kto"))])
def test_errors_are_those_of_the_base_on_the_draws_that_came_first(workshop, caches, tmp_path, monkeypatch, name):
    method, mode = CASES[name]
    monkeypatch.setattr(Trainer, "_looks_at_gap", lambda self, update: False)
    entered = Counter()
    for kind in (FrozenCopy, LoraView):

        def active(self, real=kind.active):
            entered["reference"] += 1
            return real(self)

        monkeypatch.setattr(kind, "active", active)
    config = kept(config_of(workshop, caches, tmp_path / "run", method, mode))
    made = watched(config, monkeypatch)
    # once for the samples and once for the errors, in the first iteration, which the first epoch lies in
    assert entered["reference"] == 1 + (name == "seppo")
    order = WinnerOrder(ITEMS, config.seed, config.draws)
    base, cache, again = commands.load(config), made.parts.cache, 0
    for position in range(BATCH * UPDATES):
        batch, place = made.places[position]
        first, there = made.places[order.source(position, 1)]
        again += order.source(position, 1) != position
        one = slice(place, place + 1)
        condition = {key: value[one] for key, value in batch.condition.items()}
        for field in ("x0", "noise", "t", "counterpart", "counterpart_noise"):
            if (value := getattr(batch, field)) is not None:
                assert torch.equal(value[place], getattr(first, field)[there])
        assert torch.equal(condition["text"][0], first.condition["text"][there])
        want = direct_errors(base, batch.x0[one], batch.noise[one], batch.t[one], condition)
        assert batch.held.item[one].tolist() == pytest.approx(want.tolist(), rel=1e-4)
        if batch.counterpart is not None:
            other = batch.counterpart_condition or batch.condition
            other = {key: value[one] for key, value in other.items()}
            want = direct_errors(base, batch.counterpart[one], batch.counterpart_noise[one], batch.t[one], other)
            assert batch.held.counterpart[one].tolist() == pytest.approx(want.tolist(), rel=1e-4)
        for draw in range(method.anchor_draws):
            want = direct_errors(
                base, batch.x0[one], batch.anchor_noise[draw, one], batch.anchor_t[draw, one], condition
            )
            assert batch.held.anchor[draw, one].tolist() == pytest.approx(want.tolist(), rel=1e-4)
    assert again == BATCH * UPDATES - ITEMS
    if name == "seppo":
        # a kept sample is what the base draws from the noise of the position that it is of
        source = order.source(20, 1)
        noise = keyed_stream(2, config.seed, "sample", 0, source).normal(cache.latent_shape)[None]
        with torch.no_grad():
            drawn = sample(
                base, base.denoiser, cache.condition([order.item(source)], [False]), noise=noise, steps=2,
                guidance_scale=2.0, unconditional=cache.unconditional(),
                scheduler=make_scheduler("ddim", base.scheduler),
            )  # fmt: skip
        batch, place = made.places[20]
        assert torch.allclose(batch.counterpart[place], drawn[0], atol=1e-4)


@pytest.mark.parametrize("name", ["dpo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kto", "seppo"))])
def test_until_a_draw_comes_again_the_losses_are_those_of_passes_within_the_update(workshop, caches, tmp_path, name):
    method, mode = CASES[name]
    for run, draws in (("kept", 3), ("live", None)):
        commands.train(kept(config_of(workshop, caches, tmp_path / run, method, mode), draws))
    a, b = lines(tmp_path / "kept"), lines(tmp_path / "live")
    # nothing is left of the reference's prediction, which `drift` needs
    assert a == [{key: value for key, value in line.items() if key != "drift"} for line in b]
    assert "drift" in b[0]
    a, b = (load_policy(CheckpointFolder(tmp_path / run / "checkpoints").latest()) for run in ("kept", "live"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_samples_alone_come_again_and_a_run_with_them_goes_on(workshop, caches, tmp_path, monkeypatch):
    method = SeppoConfig(beta=50, reference="initial")
    config = config_of(workshop, caches, tmp_path / "whole", method)
    config = replace(config, reference_samples=replace(config.reference_samples, repeat_after=1))
    made = watched(config, monkeypatch)
    order = WinnerOrder(ITEMS, config.seed, config.draws)
    for position in range(ITEMS, BATCH * UPDATES):
        batch, place = made.places[position]
        first, there = made.places[order.source(position, 1)]
        assert torch.equal(batch.counterpart[place], first.counterpart[there])
        assert not torch.equal(batch.noise[place], first.noise[there])
        assert batch.held is None
    counts = [event["count"] for event in read_events(tmp_path / "whole") if event["event"] == "samples"]
    assert counts == [ITEMS]
    stopped = replace(config, run=str(tmp_path / "run"))
    with killed_before_update(4):
        commands.train(stopped)
    commands.train(stopped)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_samples_of_another_batch_size_are_drawn_anew_with_a_word(tmp_path, capsys):
    samples = object.__new__(ReferenceSamples)
    samples.folder, samples.buffers = tmp_path, {}
    for name in ("iteration-0001-by-8", "iteration-0000-by-8"):
        (tmp_path / name).mkdir()
    # what another iteration left is used up, and needs no word
    assert samples._missing([SampleBuffer(tmp_path / "iteration-0001-by-4", 0, 6, 4)]) == [range(4), range(4, 6)]
    assert capsys.readouterr().out == (
        f"{tmp_path}/iteration-0001-by-8 was made in batches of another size and is made anew\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["seppo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dpo", "kto"))])
def test_a_run_goes_on_bit_for_bit_and_makes_damaged_files_anew(workshop, caches, tmp_path, capsys, name):
    method, mode = CASES[name]
    commands.train(kept(config_of(workshop, caches, tmp_path / "undisturbed", method, mode)))
    config = kept(config_of(workshop, caches, tmp_path / "run", method, mode))
    with killed_before_update(4):
        commands.train(config)
    # the second iteration has no draws of its own, and nothing of the first is used up
    errors = list((tmp_path / "run" / "buffer" / "errors").rglob("*.safetensors"))
    samples = [path for path in (tmp_path / "run" / "buffer").rglob("*.safetensors") if path not in errors]
    assert len(errors) == 1 and len(samples) == (4 if name == "seppo" else 0)
    content = bytearray(errors[0].read_bytes())
    content[-3] ^= 64
    errors[0].write_bytes(content)
    for path in samples[:1]:
        path.unlink()
    capsys.readouterr()
    commands.train(config)
    assert re.search(r"buffer/errors/\S+ is damaged .* generated anew", capsys.readouterr().out)
    assert_same(tmp_path / "run", tmp_path / "undisturbed")
    counts = [event["count"] for event in read_events(tmp_path / "run") if event["event"] == "samples"]
    assert counts == ([10, 3] if name == "seppo" else [])
    assert not list((tmp_path / "run" / "buffer").rglob("*.safetensors"))


@pytest.mark.parametrize(("mode", "sharded"), [("full", False), pytest.param("full", True), ("lora", False)], ids=str)
@pytest.mark.slow
def test_several_processes_equal_one(workshop, caches, tmp_path, mode, sharded):
    method = SeppoConfig(beta=50, reference="initial")
    config = kept(config_of(workshop, caches, tmp_path / "two", method, mode, 1), sharded=sharded)
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    status, told = trained(path, 2)
    assert status == 0, told[-3000:]
    commands.train(kept(replace(config, run=str(tmp_path / "one")), sharded=False))
    for a, b in zip(lines(tmp_path / "two"), lines(tmp_path / "one"), strict=True):
        for key in ("loss", "grad_norm", "winner_error"):
            assert a[key] == pytest.approx(b[key], rel=1e-3), (a["update"], key)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"name": "sft"}, "method.name=sft has no reference; leave it out"),
        ({"name": "dspo"}, "needs the reference's prediction itself, which is not kept; leave it out"),
        ({"name": "seppo"}, r"moves \(reference=random\); set method.reference=initial, or leave it out"),
        ({"name": "spin"}, r"moves \(reference=latest\); leave it out"),
        ({"name": "dro"}, "sampled_from=latest are others in every iteration; set method.sampled_from=initial"),
    ],
)
def test_what_cannot_be_kept_is_refused(workshop, tmp_path, method, told):
    config = workshop.config(tmp_path / "run")
    data = replace(config.data, supervision="pairs" if method["name"] == "dspo" else "winners")
    with pytest.raises(ValueError, match=f"loop.reference_draws=2 keeps .* and .*{told}"):
        kept(replace(config, method=MethodConfig.variants()[method["name"]](), data=data), 2)


@pytest.mark.parametrize(
    ("method", "draws", "told"),
    [
        ("sft", None, "method.name=sft draws none; leave it out"),
        ("seppo", None, r"those of method.name=seppo are drawn by a model that moves \(random\)"),
        ("gt_pair", 2, "loop.reference_draws=2 lets them come again too; leave one of them out"),
    ],
)
def test_samples_that_cannot_come_again_are_refused(workshop, tmp_path, method, draws, told):
    config = workshop.config(tmp_path / "run")
    samples = replace(config.reference_samples, repeat_after=1)
    config = kept(replace(config, method=MethodConfig.variants()[method]()), draws)
    with pytest.raises(ValueError, match=f"reference_samples.repeat_after=1 lets own samples come again, and .*{told}"):
        replace(config, reference_samples=samples)


def test_what_does_not_move_is_not_refused(workshop, tmp_path):
    config = workshop.config(tmp_path / "run")
    kept(replace(config, method=DroConfig(sampled_from="initial")), 2)
    kept(replace(config, method=SeppoConfig(reference="initial")), 2)
    with pytest.raises(ValueError, match=r"loop.judge=\S+ chooses among other samples in every iteration"):
        replace(
            config,
            method=DpoConfig(),
            data=replace(config.data, supervision="prompts", flip=False),
            loop=replace(config.loop, reference_draws=2, judge="tests.judges:redness"),
        )
    with pytest.raises(ValueError, match=r"loop\.reference_draws=0 must be at least 1"):
        kept(config, 0)
