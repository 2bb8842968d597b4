"""Signals and gates in the real trainer: saved in time, told in words, and nothing lost."""

import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.monitoring import HealthConfig
from seppo_core.distributed.signals import Stopped
from seppo_core.methods.seppo import Seppo
from seppo_core.run.checkpoint import load_policy
from seppo_core.run.health import UnhealthyRun
from seppo_core.run.history import read_events, read_metrics
from seppo_core.run.status import read_status, status_text
from seppo_core.training.preview import Preview
from seppo_core.training.reference_samples import ReferenceSampler
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from seppo_image.__main__ import main
from tests.training.disturb import at, saved, terminate
from tests.training.test_resume import assert_same_run

MOMENTS = {
    "before an update": (Trainer, "_update", 6, 5),
    "between micro-batches": (Seppo, "loss", 7, 3),
    "while samples are drawn": (ReferenceSampler, "steps", 6, 3),
    "before anything is done": (ReferenceSampler, "steps", 2, 0),
}
"""Where the signal comes, and the update that is the last one saved."""


@pytest.mark.parametrize("mode", ["full", pytest.param("lora", marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_saves_leaves_and_goes_on(workshop, whole_run, tmp_path, monkeypatch, moment, mode):
    owner, name, call, update = MOMENTS[moment]
    config = workshop.config(tmp_path / "run", mode)
    with monkeypatch.context() as patch:
        at(patch, owner, name, call, terminate)
        with pytest.raises(Stopped, match=f"stopped by SIGTERM after update {update} of 6"):
            commands.train(config)
    assert saved(tmp_path / "run") == update
    assert read_events(tmp_path / "run")[-1]["event"] == "stopped"
    commands.train(config)
    if mode == "lora":
        commands.train(workshop.config(tmp_path / "whole", mode))
    assert_same_run(tmp_path / "run", whole_run if mode == "full" else tmp_path / "whole")


def test_a_signal_while_a_sample_is_drawn_does_not_wait_for_it(workshop, tmp_path, monkeypatch):
    def slow(*_):
        terminate()
        time.sleep(30)
        yield

    monkeypatch.setattr(ReferenceSampler, "steps", slow)
    began = time.monotonic()
    with pytest.raises(Stopped):
        commands.train(workshop.config(tmp_path / "run"))
    assert time.monotonic() - began < 20


def test_a_signal_in_a_preview_draws_it_after_the_resume(workshop, tmp_path, monkeypatch):
    preview = replace(workshop.config(tmp_path).preview, prompts=("a red wall",), every=4, steps=2, per_prompt=1)
    config = workshop.config(tmp_path / "run", preview=preview)
    with monkeypatch.context() as patch:
        at(patch, Preview, "render", 2, terminate)
        with pytest.raises(Stopped, match="after update 4 of 6"):
            commands.train(config)
    commands.train(config)
    names = ["update-000000.png", "update-000004.png", "update-000006.png"]
    assert sorted(path.name for path in (tmp_path / "run" / "previews").glob("*.png")) == names


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_exit_status(workshop, tmp_path, monkeypatch, capsys, number, status):
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(workshop.config(tmp_path / "run")))
    at(monkeypatch, Trainer, "_update", 3, lambda: os.kill(os.getpid(), number))
    assert main(["train", str(path)]) == status
    error = capsys.readouterr().err
    assert f"seppo-image: stopped by {number.name} after update 2 of 6; the same command goes on" in error
    text = status_text(read_status(tmp_path / "run"))
    assert f"stopped: stopped by {number.name} after update 2 of 6" in text
    assert "update-000002" in text


def test_handlers_are_put_back(workshop, whole_run):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def planted_loss(patch, first: int, change) -> None:
    """Changes the loss of every micro-batch from number `first` on."""
    original, calls = Seppo.loss, []

    def loss(self, *arguments):
        value, metrics = original(self, *arguments)
        calls.append(1)
        return (change(value) if len(calls) >= first else value), metrics

    patch.setattr(Seppo, "loss", loss)


@pytest.mark.parametrize(
    "change",
    [lambda loss: loss * float("nan"), pytest.param(lambda loss: loss + float("inf"), marks=pytest.mark.slow)],
    ids=["gradient", "loss alone"],
)
def test_what_is_not_finite_is_skipped_then_stops(workshop, tmp_path, monkeypatch, change):
    config = workshop.config(tmp_path / "run", health=HealthConfig(non_finite_updates=2))
    with monkeypatch.context() as patch:
        # two micro-batches an update: from the fourth update on
        planted_loss(patch, 7, change)
        with pytest.raises(UnhealthyRun, match=r"non_finite at update 5: .*2 updates in a row.*since update 4"):
            commands.train(config)
    lines = read_metrics(tmp_path / "run")
    assert [line["skipped"] for line in lines] == [0, 0, 0, 1, 2]
    assert lines[3]["loss"] is None
    assert saved(tmp_path / "run") == 4, "what was skipped left the weights as they were, so that saving them is right"
    before, after = (load_policy(tmp_path / "run" / "checkpoints" / f"update-00000{n}") for n in (3, 4))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [event["event"] for event in read_events(tmp_path / "run")][-2:] == ["alarm", "failed"]
    with monkeypatch.context() as patch:
        # the memory survives: one more skipped update is the second in a row
        planted_loss(patch, 1, change)
        with pytest.raises(UnhealthyRun, match="non_finite at update 5"):
            commands.train(config)
    # and the fault mended, the same command goes on
    commands.train(config)
    assert [line["update"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_a_learning_rate_that_ruins_the_model_is_seen(workshop, tmp_path, capsys):
    config = workshop.config(tmp_path / "run")
    config = replace(
        config,
        loop=replace(config.loop, updates_per_iteration=10),
        optimizer=replace(config.optimizer, lr=0.1, max_grad_norm=None),
        health=HealthConfig(window=2, winner_error="stop"),
    )
    with pytest.raises(UnhealthyRun, match=r"winner_error at update \d+: winner_error is .* above the .* of the base"):
        commands.train(config)
    assert "health: winner_error at update" in capsys.readouterr().err
    assert "winner_error out of bounds" in status_text(read_status(tmp_path / "run"))


def test_samples_that_collapse_are_seen(workshop, tmp_path, monkeypatch, capsys):
    steps = ReferenceSampler.steps

    def shrunk(self, reference, iteration, positions):
        for latents in steps(self, reference, iteration, positions):
            yield latents * (0.1 if iteration else 1)

    monkeypatch.setattr(ReferenceSampler, "steps", shrunk)
    commands.train(workshop.config(tmp_path / "run"))
    assert "health: sample_collapse at update 4" in capsys.readouterr().err
    lines = read_metrics(tmp_path / "run")
    assert lines[3]["sample_variance"] < 0.05 * lines[0]["sample_variance"]


def test_a_healthy_run_fires_none(whole_run):
    assert [event["event"] for event in read_events(whole_run)] == [
        "started", "samples", "checkpoint", "checkpoint", "samples", "checkpoint", "checkpoint", "finished",
    ]  # fmt: skip
    assert "no health warnings" in status_text(read_status(whole_run))
    assert "state       finished" in status_text(read_status(whole_run))
