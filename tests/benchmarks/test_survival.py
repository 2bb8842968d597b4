"""The kill script: what it plans, what it notices, and one small run of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import COMMANDS
from benchmarks.experiments.survival import dying
from benchmarks.experiments.survival import main as survival
from benchmarks.experiments.survival.comparison import equal
from benchmarks.experiments.survival.main import survive, table
from benchmarks.experiments.survival.run_under_test import (
    FIRST,
    FIRST_CHANGES,
    KILLS_IN_A_LIFE,
    PHASES,
    STRIDE,
    PlannedKill,
    RunUnderTest,
    moments,
)

DYING = Path(dying.__file__)


def test_moments_depend_on_the_seed_alone():
    assert moments(0, 1, "train") == moments(0, 1, "train")
    assert moments(0, 1, "train") != moments(1, 1, "train") != moments(1, 2, "train")
    planned = {moment.phase for command in ("prepare", "train", "export") for moment in moments(3, 1, command)}
    assert planned == set(PHASES)
    assert KILLS_IN_A_LIFE >= 10


@pytest.fixture
def life(tmp_path):
    life = RunUnderTest(tmp_path / "life", tmp_path / "data")
    life.write()
    return life


def test_the_command_is_the_same_every_time(life):
    assert life.command("train") == ("-m", "seppo_image", "train", str(life.config))
    assert life.command("export")[-2:] == ("--out", str(life.export))


SIGNS = {
    "checkpoint": "run/checkpoints/.update-000002.7.tmp",
    "snapshot": "run/pool/.snapshot-0001.safetensors.7.tmp",
    "export": ".exported.7.tmp",
    "generation": "run/buffer/iteration-0001-by-8/samples-000000040.safetensors",
    "preparation": "cache/prepare.json",
}


@pytest.mark.parametrize("phase", SIGNS)
def test_a_moment_waits_for_a_new_sign(life, phase):
    """What an earlier kill left lying about is none."""
    old = life.folder / SIGNS[phase].replace("000002", "000001").replace("7.tmp", "5.tmp").replace("0040", "0000")
    old = old.with_name("old.json") if phase == "preparation" else old
    old.parent.mkdir(parents=True, exist_ok=True)
    old.touch()
    sign = PlannedKill(phase, 1, 0.0).watch(life)
    assert not sign()
    (life.folder / SIGNS[phase]).touch()
    assert sign()


def test_a_step_is_one_after_the_start(life):
    life.run.mkdir()
    log, events = life.run / "metrics.jsonl", life.run / "events.jsonl"
    log.write_text("{}\n{}\n{}\n")
    sign = PlannedKill("step", 2, 0.0).watch(life)
    assert not sign()
    # the start drops two of them, and does them again
    log.write_text("{}\n")
    events.write_text('{"event": "started"}\n')
    assert not sign()
    log.write_text("{}\n{}\n")
    assert not sign()
    log.write_text("{}\n{}\n{}\n")
    assert sign()


def test_the_first_writes_are_all_met_within_as_many_lives_as_the_stride(life):
    changes = {
        moment.signs for number in range(STRIDE) for moment in moments(0, number, "train") if moment.phase == FIRST
    }
    assert changes == set(range(FIRST_CHANGES["train"]))
    assert life.dying("train", 7)[2:] == (str(life.run), "7", *life.command("train")[1:])


WRITE = """
import sys
from pathlib import Path
Path(sys.argv[1]).mkdir()
Path(sys.argv[1], "a.tmp").write_text("whole")
open(Path(sys.argv[1], "a.tmp")).close()
Path(sys.argv[1], "a.tmp").rename(Path(sys.argv[1], "a"))
"""


@pytest.mark.parametrize(("number", "left"), [(0, None), (1, []), (2, ["a.tmp"]), (3, ["a.tmp"]), (4, ["a"])])
def test_a_dying_process_is_killed_before_the_change_that_is_named(tmp_path, number, left):
    (tmp_path / "writing.py").write_text(WRITE)
    folder = tmp_path / "folder"
    command = [sys.executable, str(DYING), str(folder), str(number), "writing", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    status = subprocess.run(command, env=environment, check=False).returncode
    assert status == (0 if number == 4 else -signal.SIGKILL)
    assert (sorted(path.name for path in folder.iterdir()) if folder.exists() else None) == left
    assert not left or (folder / left[0]).read_text() == "whole"


def test_half_written_things_are_listed(life):
    (life.run / "checkpoints" / ".update-000002.7.tmp" / "inner.tmp").mkdir(parents=True)
    (life.folder / ".exported.7.tmp").mkdir()
    assert life.half_written() == [".exported.7.tmp", "run/checkpoints/.update-000002.7.tmp"]


def test_equal_means_every_bit():
    a = {"w": torch.tensor([1.0, 2.0]), "n": [1, {"t": torch.tensor(3)}]}
    b = {"w": torch.tensor([1.0, 2.0]), "n": [1, {"t": torch.tensor(3)}]}
    assert equal(a, b)
    b["w"] = torch.nextafter(b["w"], torch.tensor(9.0))
    assert not equal(a, b)
    assert not equal(a, {"w": a["w"]})
    assert not equal({"w": a["w"].double()}, {"w": a["w"]})


def test_a_difference_is_told_and_is_a_failure(monkeypatch, tmp_path):
    lives = [{"weights": True, "metrics": True}, {"weights": False, "metrics": True}]
    report = {"kills": 3, "starts": 9, "lives": lives, "by_phase": {"step": {"kills": 3, "half_written": 1}}}
    assert "undisturbed, bit for bit: metrics. NOT the same: weights." in table(report)
    monkeypatch.setattr(survival, "survive", lambda *_: {"equal": False})
    assert survival.main(["--out", str(tmp_path)]) == 1


def test_files_of_others_are_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert survival.main(["--out", str(tmp_path)]) == 1
    assert "thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()


def test_it_is_a_command():
    assert COMMANDS["survival"][0] == "benchmarks.experiments.survival.main"


@pytest.mark.slow
def test_a_small_run_of_it(tmp_path, monkeypatch, capsys):
    """One life; a thing of the outcome that differs is seen."""
    report = survive(tmp_path / "out", kills=4, seed=1)
    assert report["equal"] and report["kills"] >= 4
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written == report
    assert {"weights", "optimiser", "metrics", "export", "cache"} <= report["lives"][0].keys()
    assert "The same as undisturbed, bit for bit" in capsys.readouterr().out

    from benchmarks.experiments.survival.comparison import compare

    source = tmp_path / "out" / "data"
    one, other = (RunUnderTest(tmp_path / "out" / name, source) for name in ("life-1", "undisturbed"))
    assert all(compare(one, other).values())
    last = next(iter(sorted((one.run / "pool").glob("*.safetensors"), reverse=True)))
    shutil.copy(sorted((one.run / "pool").glob("*.safetensors"))[0], last)
    lines = (one.run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (one.run / "metrics.jsonl").write_text("".join(lines[:-1]))
    Path(one.folder / ".left.3.tmp").touch()
    found = compare(one, other)
    assert {name for name, same in found.items() if not same} == {"references", "metrics", "nothing half-written"}
