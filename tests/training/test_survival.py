"""Signals, gates, disks and changes in the real trainer: saved in time, told in words, and nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seppo_core.batches import BatchMaker
from seppo_core.checkpoint import CheckpointFolder, load_policy
from seppo_core.config_file import resolved_yaml
from seppo_core.config_health import HealthConfig
from seppo_core.generate import SampleGenerator
from seppo_core.health import UnhealthyRun
from seppo_core.methods import Seppo
from seppo_core.preview import Preview
from seppo_core.requests import TrainRequest
from seppo_core.run_files import read_events, read_metrics
from seppo_core.signals import Stopped
from seppo_core.status import read_status, status_text
from seppo_core.trainer import Trainer
from seppo_image import commands
from seppo_image.__main__ import main
from tests.training.test_resume import assert_same_run, logged


@pytest.fixture(scope="module")
def undisturbed(workshop, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    commands.train(workshop.config(run))
    return run


def at(patch, owner, name: str, call: int, act) -> None:
    """Does `act()` before call number `call` (from 1) of a method."""
    original, calls = getattr(owner, name), []

    def wrapped(self, *arguments, **options):
        calls.append(1)
        if len(calls) == call:
            act()
        return original(self, *arguments, **options)

    patch.setattr(owner, name, wrapped)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def saved(run: Path) -> int:
    latest = CheckpointFolder(run / "checkpoints").latest()
    return int(latest.name.rpartition("-")[2]) if latest else 0


MOMENTS = {
    "before an update": (Trainer, "_update", 6, 5),
    "between micro-batches": (BatchMaker, "make", 7, 3),
    "while samples are drawn": (SampleGenerator, "__call__", 6, 3),
    "before anything is done": (SampleGenerator, "__call__", 2, 0),
}
"""Where the signal comes, and the update that is the last one saved."""


@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_saves_leaves_and_goes_on(workshop, undisturbed, tmp_path, monkeypatch, moment, mode):
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
    assert_same_run(tmp_path / "run", undisturbed if mode == "full" else tmp_path / "whole")


def test_a_signal_while_a_sample_is_drawn_does_not_wait_for_it(workshop, tmp_path, monkeypatch):
    def slow():
        terminate()
        time.sleep(30)

    monkeypatch.setattr(SampleGenerator, "__call__", lambda *_: slow())
    began = time.monotonic()
    with pytest.raises(Stopped):
        commands.train(workshop.config(tmp_path / "run"))
    assert time.monotonic() - began < 20


def test_a_signal_in_a_preview_draws_it_after_the_resume(workshop, tmp_path, monkeypatch):
    preview = replace(workshop.config(tmp_path).preview, prompts=("a red wall",), every=4, steps=2, per_prompt=1)
    config = workshop.config(tmp_path / "run", preview=preview)
    with monkeypatch.context() as patch:
        at(patch, Preview, "draw", 2, terminate)
        with pytest.raises(Stopped, match="after update 4 of 6"):
            commands.train(config)
    commands.train(config)
    names = ["update-000000.png", "update-000004.png", "update-000006.png"]
    assert sorted(path.name for path in (tmp_path / "run" / "previews").iterdir()) == names


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


def test_handlers_are_put_back(workshop, undisturbed):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# gates


def planted_loss(patch, first: int, change) -> None:
    """Changes the loss of every micro-batch from number `first` on."""
    original, calls = Seppo.loss, []

    def loss(self, *arguments):
        value, metrics = original(self, *arguments)
        calls.append(1)
        return (change(value) if len(calls) >= first else value), metrics

    patch.setattr(Seppo, "loss", loss)


@pytest.mark.parametrize(
    "change", [lambda loss: loss * float("nan"), lambda loss: loss + float("inf")], ids=["gradient", "loss alone"]
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
        loop=replace(config.loop, updates=10),
        optimizer=replace(config.optimizer, lr=0.1, max_grad_norm=None),
        health=HealthConfig(window=2, winner_error="stop"),
    )
    with pytest.raises(
        UnhealthyRun, match=r"winner_error at update \d+: winner_error is .* above the .*first 2 updates"
    ):
        commands.train(config)
    assert "health: winner_error at update" in capsys.readouterr().err
    assert "winner_error out of bounds" in status_text(read_status(tmp_path / "run"))


def test_samples_that_collapse_are_seen(workshop, tmp_path, monkeypatch, capsys):
    generate = SampleGenerator.__call__
    shrink = lambda self, reference, i, p: generate(self, reference, i, p) * (0.1 if i else 1)  # noqa: E731
    monkeypatch.setattr(SampleGenerator, "__call__", shrink)
    commands.train(workshop.config(tmp_path / "run"))
    assert "health: collapse at update 4: the variance of the reference's samples is" in capsys.readouterr().err
    lines = read_metrics(tmp_path / "run")
    assert lines[3]["sample_variance"] < 0.05 * lines[0]["sample_variance"]


def test_a_healthy_run_fires_none(undisturbed):
    assert [event["event"] for event in read_events(undisturbed)] == [
        "started", "samples", "checkpoint", "checkpoint", "samples", "checkpoint", "checkpoint", "finished",
    ]  # fmt: skip
    assert "no gate has spoken" in status_text(read_status(undisturbed))
    assert "state       finished" in status_text(read_status(undisturbed))


# the disk


@pytest.fixture
def disk(tmp_path):
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False)
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fills_up(workshop, undisturbed, disk, tmp_path, monkeypatch, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(workshop.config(disk / "run")))

    def fill():
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "filler").write_bytes(bytes(free - 20_000))

    with monkeypatch.context() as patch:
        at(patch, Trainer, "_update", 4, fill)
        assert main(["train", str(path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "update-000004 could not be written: its disk is full" in error
    assert saved(disk / "run") == 3
    assert not list((disk / "run" / "checkpoints").glob(".*"))
    (disk / "filler").unlink()
    assert main(["train", str(path)]) == 0
    assert_same_run(disk / "run", undisturbed)


def test_a_disk_that_becomes_read_only(workshop, undisturbed, disk, tmp_path, monkeypatch, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(workshop.config(disk / "run")))
    remount = lambda how: subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)  # noqa: E731
    commands.train(workshop.config(disk / "run"))
    shutil.rmtree(disk / "run" / "checkpoints" / "update-000006")
    remount("ro")
    assert main(["train", str(path)]) == 2
    assert "read-only" in capsys.readouterr().err.lower()
    remount("rw")
    assert main(["train", str(path)]) == 0
    assert_same_run(disk / "run", undisturbed)


def test_a_mount_that_vanishes(workshop, undisturbed, tmp_path, monkeypatch, capsys):
    path = tmp_path / "config.yaml"
    run = tmp_path / "mount" / "run"
    path.write_text(resolved_yaml(workshop.config(run)))

    def vanish():
        run.parent.rename(tmp_path / "away")
        run.parent.mkdir()

    with monkeypatch.context() as patch:
        at(patch, Trainer, "_update", 4, vanish)
        assert main(["train", str(path)]) == 2
    assert (
        "is no longer the folder that the run began in; was it moved, or its disk unmounted?" in capsys.readouterr().err
    )
    assert list(run.parent.iterdir()) == [], "nothing may be written below the mount"
    run.parent.rmdir()
    (tmp_path / "away").rename(run.parent)
    assert main(["train", str(path)]) == 0
    assert_same_run(run, undisturbed)


# another config, version or model


@pytest.fixture
def begun(undisturbed, tmp_path):
    """A run that stands after update 4."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "checkpoints" / "update-000006")
    return run


def test_a_change_is_refused_or_accepted_by_name(workshop, begun):
    config = workshop.config(begun)
    changed = replace(config, method=replace(config.method, beta=7), optimizer=replace(config.optimizer, lr=1e-4))
    for accept in [(), ("method.beta",), ("winners",)]:
        with pytest.raises(ValueError, match=r"--accept_changes .*method\.beta optimizer\.lr") as caught:
            commands.train(changed, TrainRequest(accept_changes=accept))
        assert ("beta: 50" in str(caught.value)) is ("method.beta" not in accept)
    commands.train(changed, TrainRequest(accept_changes=("method.beta", "optimizer.lr")))
    assert [line["update"] for line in logged(begun)] == [1, 2, 3, 4, 5, 6]
    # from now on it is the run's own
    commands.train(changed)
    with pytest.raises(ValueError, match=r"method\.beta: 7.* -> 50"):
        commands.train(config)


def test_a_run_can_be_made_longer(workshop, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    config = workshop.config(tmp_path / "run")
    longer = replace(config, loop=replace(config.loop, iterations=3))
    commands.train(longer, TrainRequest(accept_changes=("loop.iterations",)))
    assert [line["update"] for line in logged(tmp_path / "run")] == list(range(1, 10))


def test_another_version_is_refused_or_accepted(workshop, begun, undisturbed):
    line = json.loads((begun / "environment.jsonl").read_text().splitlines()[-1])
    (begun / "environment.jsonl").write_text(json.dumps(line | {"seppo": "0.0.1"}) + "\n")
    config = workshop.config(begun)
    with pytest.raises(ValueError, match=r"version: seppo 0\.0\.1 -> .*--accept_changes version"):
        commands.train(config)
    commands.train(config, TrainRequest(accept_changes=("version",)))
    assert_same_run(begun, undisturbed)


def test_other_weights_at_the_same_path_are_refused_or_accepted(workshop, begun, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(workshop.base, base)
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    config = workshop.config(begun)
    config = replace(config, model=replace(config.model, base=str(base)))
    commands.train(config, TrainRequest(accept_changes=("model.base",)))
    shutil.rmtree(begun / "checkpoints" / "update-000006")
    save_file({name: -tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"was begun on other weights .*--accept_changes model"):
        commands.train(config)
    commands.train(config, TrainRequest(accept_changes=("model",)))


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        (
            "progress.json",
            b'{"update": 4, "skipped": 0, "format": 99, "more": 1}',
            "has format 99; this version reads 1",
        ),
        ("progress.json", b'{"upd', "is damaged"),
        ("policy.safetensors", b"\0" * 100, "is damaged"),
        ("optimizer.pt", b"\0" * 100, "is damaged"),
        ("optimizer.pt", None, "is damaged"),
    ],
    ids=["another format", "progress", "weights", "optimiser", "missing"],
)
def test_a_checkpoint_that_cannot_be_read(workshop, begun, undisturbed, file, content, text):
    path = begun / "checkpoints" / "update-000004" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=text) as caught:
        commands.train(workshop.config(begun))
    assert "update-000004" in str(caught.value)


def test_a_damaged_checkpoint_moved_away_costs_no_more_than_its_updates(workshop, undisturbed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    (run / "checkpoints" / "update-000006" / "policy.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="move it away, and the same command goes on from the one before it"):
        commands.train(workshop.config(run))
    shutil.rmtree(run / "checkpoints" / "update-000006")
    commands.train(workshop.config(run))
    assert_same_run(run, undisturbed)


def test_a_second_process_in_the_same_run_is_refused(workshop, begun, monkeypatch):
    from seppo_core.run_place import RunPlace

    with RunPlace(begun), pytest.raises(ValueError, match="is being trained in by another process"):
        commands.train(workshop.config(begun))
