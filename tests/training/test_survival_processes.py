"""A signal to one of several processes stops them all, at the same update, within seconds, saved."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.training import PreviewConfig
from seppo_core.run.checkpoint import CheckpointFolder
from seppo_core.run.history import read_events, read_metrics
from tests.training.together import start


def test_two_processes_stop_together_and_go_on(workshop, tmp_path):
    config = workshop.config(tmp_path / "run")
    # long enough to be met on its way, and saved at the end of an iteration alone
    config = replace(config, loop=replace(config.loop, iterations=1, updates_per_iteration=30, checkpoint_every=1000))
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    run = tmp_path / "run"
    launch = start(2, "seppo_image", "train", path, log=tmp_path / "log")
    launch.until(lambda: len(read_metrics(run)) >= 3)
    os.kill(read_events(run)[0]["process"], signal.SIGTERM)
    launch.finish()
    latest = CheckpointFolder(run / "checkpoints").latest()
    assert latest is not None, launch.output[-3000:]
    saved = json.loads((latest / "progress.json").read_text())["update"]
    assert 3 <= saved < 30
    assert read_metrics(run)[-1]["update"] == saved
    assert read_events(run)[-1]["event"] == "stopped"
    assert "stopped by SIGTERM after update" in launch.output
    again = start(2, "seppo_image", "train", path, log=tmp_path / "again")
    assert again.finish() == 0, again.output[-3000:]
    assert [line["update"] for line in read_metrics(run)] == list(range(1, 31))


@pytest.mark.parametrize(
    ("doing", "sharded", "whom"),
    [
        ("samples", False, "process 1"),
        pytest.param("samples", False, "process 0", marks=pytest.mark.slow),
        # as a launcher passes a signal on
        pytest.param("samples", False, "both", marks=pytest.mark.slow),
        pytest.param("samples", True, "process 1", marks=pytest.mark.slow),
        # process 1 waits for the other, which draws
        pytest.param("preview", False, "process 1", marks=pytest.mark.slow),
    ],
)
def test_what_takes_long_is_broken_off(workshop, tmp_path, doing, sharded, whom):
    """A batch of samples takes longer than the half minute that torchrun gives its processes, and there are ten."""
    run = tmp_path / "run"
    config = workshop.config(run)
    many = PreviewConfig(prompts=("a red wall",), per_prompt=24, steps=900, scheduler="ddim")
    config = replace(
        config,
        loop=replace(config.loop, iterations=1, updates_per_iteration=60, sharded=sharded),
        reference_samples=replace(config.reference_samples, steps=900, batch_size=24),
        preview=many if doing == "preview" else config.preview,
    )
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    launch = start(2, "seppo_image", "train", path, log=tmp_path / "log")
    begun = run / ("pool/snapshot-0000.safetensors" if doing == "samples" else "events.jsonl")
    launch.until(begun.exists)
    time.sleep(1)
    if whom == "both":
        launch.terminate()
    else:
        launch.workers[int(whom[-1])].terminate()
    launch.finish()
    assert [event["event"] for event in read_events(run)] == ["started", "stopped"], launch.output[-3000:]
    assert "stopped by SIGTERM after update 0 of 60" in launch.output
    # what was being drawn is not there: nobody has waited for it
    assert not [*run.rglob("samples-*"), *run.rglob("update-000000.png")]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
@pytest.mark.parametrize("asked", [True, False], ids=["asked to stop", "left alone"])
def test_a_stopped_process_does_not_keep_the_other(workshop, tmp_path, stopped, asked):
    """It waits in a collective, where the handler of a signal does not run."""
    config = workshop.config(tmp_path / "run")
    config = replace(config, loop=replace(config.loop, iterations=1, updates_per_iteration=200, checkpoint_every=5))
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    run = tmp_path / "run"
    launch = start(2, "tests.training.impatient", "train", path, log=tmp_path / "log")
    launch.until(lambda: len(read_metrics(run)) >= 6)
    one, other = launch.workers[stopped], launch.workers[1 - stopped]
    os.kill(one.pid, signal.SIGSTOP)
    time.sleep(1)
    began = time.monotonic()
    if asked:
        other.terminate()
    other.join(30)
    os.kill(one.pid, signal.SIGKILL)
    launch.finish()
    assert time.monotonic() - began < 20
    assert other.exitcode == (143 if asked else 2), launch.output[-3000:]
    line = launch.output.strip().splitlines()[-1]
    assert line.startswith(f"seppo-image: process {stopped} of 2 "), launch.output[-3000:]
    assert "Traceback" not in launch.output
    assert read_events(run)[-1]["event"] == "stopped"


@pytest.mark.slow
def test_a_killed_process_is_named_by_the_one_that_is_left(workshop, tmp_path):
    config = workshop.config(tmp_path / "run")
    config = replace(config, loop=replace(config.loop, iterations=1, updates_per_iteration=200))
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    launch = start(2, "seppo_image", "train", path, log=tmp_path / "log")
    # as a launcher would tell the other to end, which is not what is tried
    launch.told = True
    launch.until(lambda: len(read_metrics(tmp_path / "run")) >= 3)
    launch.workers[1].kill()
    launch.workers[0].join(60)
    assert launch.workers[0].exitcode == 2, launch.output[-3000:]
    assert "seppo-image: process 1 of 2 is gone" in launch.output
    assert "Traceback" not in launch.output
    launch.finish()
