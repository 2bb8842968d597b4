"""Training a base: when it stops, what it refuses, and one run of a few steps."""

import dataclasses
import json
import sys

import pytest
import torch

from benchmarks.experiments.toy.task.base_model import Base
from benchmarks.experiments.toy.task.base_settings import SETTINGS
from benchmarks.experiments.toy.task.train_base import Trainer, _has_stopped, main, train

TINY = dataclasses.replace(
    SETTINGS["image"], channels=(16, 16), batch=4, max_steps=4, cooldown=2, every=2, evaluation_steps=2
)


@pytest.mark.parametrize(
    ("scores", "stopped"),
    [
        ([0.1], False),
        ([0.1, 0.2, 0.3, 0.4, 0.5], False),
        ([0.5, 0.4, 0.5, 0.5, 0.502], True),
        ([0.5, 0.4, 0.5, 0.5, 0.504], False),
        ([0.5, 0.5, 0.5, 0.5], False),  # nothing before the last four to compare with
    ],
)
def test_it_has_stopped_when_the_last_few_bring_no_rise(scores, stopped):
    settings = dataclasses.replace(TINY, patience=4, rise=0.003)
    assert _has_stopped(scores, settings) is stopped


def test_the_average_follows_the_weights_and_pads_are_not_trained():
    base = Base("image", TINY.channels)
    trainer = Trainer(base, TINY, torch.Generator().manual_seed(0))
    before = [w.clone() for w in trainer.weights]
    trainer.step(4, 1.0)
    decay = min(TINY.ema, 2 / 11)
    for old, new, average in zip(before, trainer.weights, trainer.averaged, strict=True):
        torch.testing.assert_close(average, decay * old + (1 - decay) * new)
    assert all(w is not fixed for w in trainer.weights for fixed in base.vae.parameters())


def test_clips_train_the_motion_alone():
    base = Base("video", TINY.channels)
    base.add_motion()
    settings = dataclasses.replace(TINY, warmup=1, motion_learning_rate=0.1)
    trainer = Trainer(base, settings, torch.Generator().manual_seed(0))
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    trainer.step(2, 1.0)
    moved = {name for name, weight in base.state_dict().items() if not torch.equal(weight, before[name])}
    # the last projections begin at zero, so that they alone have a gradient in the first step
    assert moved and all("motion_modules" in name for name in moved)
    assert any(".proj_out." in name for name in moved)


def test_a_short_run_saves_the_base_and_its_curve(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "benchmarks.experiments.toy.task.train_base.held_out", lambda _: ["a large red circle on black"]
    )
    report = train("image", dataclasses.replace(TINY, evaluation_seeds=1), tmp_path)
    assert [row["step"] for row in report["curve"]] == [2, 4]
    assert json.loads((tmp_path / "image_training.json").read_text()) == json.loads(json.dumps(report))
    assert (tmp_path / "image" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert "min left" in capsys.readouterr().out


@pytest.mark.slow
def test_a_training_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "benchmarks.experiments.toy.task.train_base.held_out", lambda _: ["a large red circle on black"]
    )
    settings = dataclasses.replace(TINY, evaluation_seeds=1)
    whole = train("image", settings, tmp_path / "whole")
    step = Trainer.step

    def dying(self, *args, **kwargs):
        if self.done == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            train("image", settings, tmp_path / "again")
    again = train("image", settings, tmp_path / "again")
    assert [row["score"] for row in again["curve"]] == [row["score"] for row in whole["curve"]]
    name = "image/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "again" / "image_state.pt").exists()


def test_a_base_that_is_there_is_not_replaced_unasked(tmp_path, monkeypatch, capsys):
    (tmp_path / "video").mkdir()
    monkeypatch.setattr(sys, "argv", ["train_base", "video", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert "exists; give --force to replace it" in capsys.readouterr().err
