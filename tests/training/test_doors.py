"""The doors beside the commands: a run as an object, equal to the command bit by bit."""

import json

import pytest
import torch

from seppo_core.cache.reader import WinnerCache
from seppo_core.config.loader import resolved_yaml
from seppo_core.config.options import ExportRequest, SampleRequest, TrainRequest
from seppo_core.distributed.signals import Stopped
from seppo_core.run.checkpoint import CheckpointFolder, load_policy
from seppo_core.run.history import read_metrics
from seppo_core.run.status import read_status, status_text
from seppo_core.training.trainer import Trainer
from seppo_image import Run
from seppo_image.__main__ import main
from tests.training.disturb import at, saved, terminate

TIMES = {"seconds", "data_seconds", "samples_per_second"}


def numbers(run) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in read_metrics(run)]


def test_a_run_object_equals_the_command_and_each_continues_the_other(workshop, tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(workshop.config(tmp_path / "unused")))
    by_command, by_object = tmp_path / "command", tmp_path / "object"
    assert main(["train", str(path), "--run", str(by_command), "--method.beta", "10"]) == 0
    run = Run.from_config(path, {"run": str(by_object), "method.beta": 10})
    with monkeypatch.context() as patch:
        at(patch, Trainer, "_update", 4, terminate)
        with pytest.raises(Stopped):
            run.train()
    assert saved(by_object) > 0
    assert "stopped" in status_text(read_status(by_object))
    assert main(["train", str(path), "--run", str(by_object), "--method.beta", "10"]) == 0
    # a finished run is left as it is
    assert run.train() == by_object
    assert numbers(by_object) == numbers(by_command)
    policies = [load_policy(CheckpointFolder(folder / "checkpoints").latest()) for folder in (by_object, by_command)]
    assert all(torch.equal(policies[0][name], policies[1][name]) for name in policies[1])
    assert "finished" in status_text(read_status(by_object))
    samples = run.sample(SampleRequest(prompts=("a red wall",), steps=1))
    assert json.loads((samples / "samples.jsonl").read_text().splitlines()[0])["prompt"] == "a red wall"
    assert (run.export(ExportRequest(kind="full")) / "model_index.json").exists()


def test_a_run_object_prepares_as_the_command(workshop, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(workshop.config(tmp_path / "run")))
    folder = Run.from_config(path, {"data.cache": str(tmp_path / "cache")}).prepare()
    assert WinnerCache(folder).fingerprint == WinnerCache(workshop.cache).fingerprint


def test_a_run_object_checks_as_the_command(workshop, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(workshop.config(tmp_path / "run")))
    with pytest.raises(FileNotFoundError, match=r"data\.cache=nowhere"):
        Run.from_config(path, {"data.cache": "nowhere"}).train()
    assert Run.from_config(path, {"method": {"beta": 7}}).config == Run.from_config(path, {"method.beta": 7}).config
    with pytest.raises(TypeError, match="from_config"):
        Run(path)
    run = Run.from_config(path)
    with pytest.raises(ValueError, match=r"method\.bet.*method\.beta"):
        run.train(TrainRequest(accept_changes=("method.bet",)))
    with pytest.raises(ValueError, match="--kind lora"):
        run.export(ExportRequest(kind="lora"))
