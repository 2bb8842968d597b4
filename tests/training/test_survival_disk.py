"""Disks that fill up, turn read-only or vanish under the real trainer: the last checkpoint stays, the run goes on."""

import os
import shutil
import subprocess

import pytest

from seppo_core.config.loader import resolved_yaml
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from seppo_image.__main__ import main
from tests.training.disturb import at, saved
from tests.training.test_resume import assert_same_run


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
def test_a_disk_that_fills_up(workshop, whole_run, disk, tmp_path, monkeypatch, capsys):
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
    assert_same_run(disk / "run", whole_run)


@pytest.mark.slow
def test_a_new_run_on_a_full_disk_begins_as_soon_as_there_is_room(workshop, whole_run, disk, tmp_path, capsys):
    """Full at each of its first files in turn: the lock, config.yaml, winners.json, hashes, versions, model.json."""
    path, answers = tmp_path / "config.yaml", []
    path.write_text(resolved_yaml(workshop.config(disk / "run")))
    with (disk / "filler").open("wb") as filler:
        for pages in range(12):
            left = os.statvfs(disk)
            filler.truncate(os.fstat(filler.fileno()).st_size + (left.f_bavail - pages) * left.f_frsize)
            os.posix_fallocate(filler.fileno(), 0, os.fstat(filler.fileno()).st_size)
            assert os.statvfs(disk).f_bavail == pages
            assert main(["train", str(path)]) == 2
            errors = capsys.readouterr().err.splitlines()
            assert not any("Traceback" in line for line in errors)
            answers.append(errors[-1])
    # first a file that has no room, in the end what the whole run needs
    assert "its disk is full" in answers[0] and "its disk is full" not in answers[-1], answers
    assert len({answer.partition(" could not be written")[0] for answer in answers}) >= 4, answers
    (disk / "filler").unlink()
    assert main(["train", str(path)]) == 0
    assert_same_run(disk / "run", whole_run)


def test_a_disk_that_becomes_read_only(workshop, whole_run, disk, tmp_path, monkeypatch, capsys):
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
    assert_same_run(disk / "run", whole_run)


def test_a_mount_that_vanishes(workshop, whole_run, tmp_path, monkeypatch, capsys):
    path = tmp_path / "config.yaml"
    run = tmp_path / "mount" / "run"
    path.write_text(resolved_yaml(workshop.config(run)))

    def vanish():
        run.parent.rename(tmp_path / "away")
        run.parent.mkdir()

    with monkeypatch.context() as patch:
        at(patch, Trainer, "_update", 4, vanish)
        assert main(["train", str(path)]) == 2
    assert "is no longer the folder that the run began in (" in capsys.readouterr().err
    assert list(run.parent.iterdir()) == [], "nothing may be written below the mount"
    run.parent.rmdir()
    (tmp_path / "away").rename(run.parent)
    assert main(["train", str(path)]) == 0
    assert_same_run(run, whole_run)
