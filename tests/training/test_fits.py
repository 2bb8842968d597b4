"""What takes less memory in a run: Adafactor, and activations that wait on the CPU or are made again, all or some."""

from dataclasses import replace

import pytest

import seppo_core.training.parallel
from seppo_core.run.history import read_metrics
from seppo_image import commands
from tests.dying import killed_before_update
from tests.training.test_resume import assert_same_run, logged


def test_activations_that_wait_on_the_cpu_or_are_kept_in_part_change_nothing(workshop, tmp_path, monkeypatch):
    asked = []
    keep = seppo_core.training.parallel.save_on_cpu

    def recording(**options):
        asked.append(options)
        return keep(**options)

    monkeypatch.setattr(seppo_core.training.parallel, "save_on_cpu", recording)

    def config(name: str, **loop):
        whole = workshop.config(tmp_path / name, "lora")
        return replace(whole, loop=replace(whole.loop, gradient_checkpointing=True, **loop))

    commands.train(config("here"))
    assert not asked
    commands.train(config("there", offload_activations=True))
    # every micro-batch of every update, and pinned memory with a GPU alone
    assert asked == [{"pin_memory": False}] * 12
    assert_same_run(tmp_path / "there", tmp_path / "here")
    commands.train(config("half", checkpointing_share=0.5))
    assert_same_run(tmp_path / "half", tmp_path / "here")


@pytest.mark.slow
def test_adafactor_trains_and_goes_on_bit_for_bit(workshop, tmp_path):
    def config(name: str):
        whole = workshop.config(tmp_path / name)
        return replace(whole, optimizer=replace(whole.optimizer, name="adafactor"))

    commands.train(config("undisturbed"))
    with killed_before_update(4):
        commands.train(config("run"))
    assert len(read_metrics(tmp_path / "run")) == 4
    commands.train(config("run"))
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")
    assert logged(tmp_path / "run")[-1]["winner_gap"] != 0
