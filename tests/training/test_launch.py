"""The launch scripts: time to save; a job that Slurm ended goes on by itself, but not one that would fail again."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from seppo_core.run.history import add_event

SCRIPTS = sorted((Path(__file__).parents[2] / "configs" / "launch").iterdir())
(SLURM,) = (path for path in SCRIPTS if path.suffix == ".sbatch")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_processes_get_more_time_to_save_than_torchrun_gives(path):
    text = path.read_text()
    (seconds,) = re.findall(r"^export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=(\d+)$", text, re.MULTILINE)
    assert int(seconds) >= 120
    if warned := re.findall(r"^#SBATCH --signal=TERM@(\d+)$", text, re.MULTILINE):
        assert int(seconds) < int(warned[0])


def requeued(folder: Path, *events: str, status: int = 1, restarts: int = 0) -> bool:
    """Whether the batch script asks Slurm to begin again, where torchrun ends with `status` after the `events`."""
    programs, run = folder / "programs", folder / "run"
    programs.mkdir()
    run.mkdir(exist_ok=True)
    lines = folder / "lines"
    lines.write_text("".join(f'{{"time": 2.0, "event": "{event}"}}\n' for event in events))
    stand_ins = {
        "srun": f'cat "{lines}" >> "{run}/events.jsonl"; exit {status}',
        "scontrol": f'echo "$@" >> "{folder}/asked"',
    }
    for name, body in stand_ins.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (programs / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "a,b", "SLURM_RESTART_COUNT": str(restarts),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(SLURM), "config.yaml", str(run)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert not done.stderr
    return "requeue 7" in (folder / "asked").read_text()


@pytest.mark.parametrize(
    ("events", "again"),
    [
        (("started", "checkpoint", "stopped"), True),
        (("started", "samples"), True),
        (("started", "checkpoint"), True),
        (("started", "alarm", "failed"), False),
        # said by one process, and what another has still to say after it
        (("started", "failed", "alarm"), False),
        (("started", "finished"), False),
        ((), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_slurm_begins_again_what_was_stopped_or_killed(tmp_path, events, again):
    assert requeued(tmp_path, *events) == again


def test_what_earlier_jobs_said_does_not_count(tmp_path):
    (tmp_path / "run").mkdir()
    for event in ("started", "failed", "started", "stopped"):
        add_event(tmp_path / "run", event)
    # refused before it started, by a config that does not fit any more, say
    assert not requeued(tmp_path)


def test_a_failure_that_was_mended_does_not_count(tmp_path):
    (tmp_path / "run").mkdir()
    for event in ("started", "failed"):
        add_event(tmp_path / "run", event)
    assert requeued(tmp_path, "started", "stopped")


def test_a_job_that_ended_well_or_too_often_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert not requeued(tmp_path / "a", "started", "finished", status=0)
    assert not requeued(tmp_path / "b", "started", "stopped", restarts=50)
