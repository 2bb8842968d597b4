"""A signal to one of several processes stops them all at the same update, saved."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from seppo_core.checkpoint import CheckpointFolder
from seppo_core.config_file import resolved_yaml
from seppo_core.run_files import read_events, read_metrics

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def start(path: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*command, "-m", "seppo_image", "train", str(path)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_two_processes_stop_together_and_go_on(workshop, tmp_path):
    config = workshop.config(tmp_path / "run")
    # long enough to be met on its way, and saved at the end of an iteration alone
    config = replace(config, loop=replace(config.loop, iterations=1, updates=60, checkpoint_every=1000))
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    run = tmp_path / "run"
    process = start(path)
    try:
        deadline = time.monotonic() + 200
        while len(read_metrics(run)) < 3:
            assert process.poll() is None, process.communicate()[0][-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started = read_events(run)[0]
        os.kill(started["process"], signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    latest = CheckpointFolder(run / "checkpoints").latest()
    assert latest is not None, output[-3000:]
    saved = json.loads((latest / "progress.json").read_text())["update"]
    assert 3 <= saved < 60
    assert read_metrics(run)[-1]["update"] == saved
    assert read_events(run)[-1]["event"] == "stopped"
    assert "stopped by SIGTERM after update" in output
    again = start(path)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output[-3000:]
    assert [line["update"] for line in read_metrics(run)] == list(range(1, 61))
