"""One process in a run folder, and always the same folder."""

import os
import signal
import subprocess
import sys
import time

import pytest

import seppo_core.run.folder_lock
from seppo_core.run.folder_lock import RunFolderLock, holder_of

HOLD = """
import sys, time
from pathlib import Path
from seppo_core.run.folder_lock import RunFolderLock
with RunFolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(seppo_core.run.folder_lock, "PATIENCE", 0.0)
    assert f"process {holder.pid} on " in holder_of(tmp_path)
    with pytest.raises(ValueError, match=rf"trained in by another process \(process {holder.pid} on "):
        with RunFolderLock(tmp_path):
            pytest.fail("two processes hold one run")


def test_the_lock_goes_with_a_kill(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert holder_of(tmp_path) is None
    with RunFolderLock(tmp_path):
        pass


def test_looking_takes_no_lock_that_lasts(tmp_path):
    with RunFolderLock(tmp_path):
        pass
    for _ in range(3):
        assert holder_of(tmp_path) is None
    with RunFolderLock(tmp_path):
        assert holder_of(tmp_path) is not None
    assert holder_of(tmp_path / "nothing") is None


def test_the_same_folder_passes(tmp_path):
    with RunFolderLock(tmp_path / "run") as place:
        (tmp_path / "run" / "file").write_text("x")
        place.check()


def test_a_folder_that_vanished_is_told(tmp_path):
    with RunFolderLock(tmp_path / "run") as place:
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        with pytest.raises(OSError, match=r"run is no longer the folder.*its disk unmounted.*goes on from the last"):
            place.check()
        assert not (tmp_path / "run").exists(), "looking must not make it"


def test_another_folder_in_its_place_is_told(tmp_path):
    """What an unmount leaves: the empty folder that the disk was mounted on."""
    with RunFolderLock(tmp_path / "run") as place:
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        (tmp_path / "run").mkdir()
        with pytest.raises(OSError, match="another one lies in its place"):
            place.check()


def test_waits_for_a_status_that_looks(tmp_path):
    """A look holds the lock for an instant; a start at that instant must not be refused."""
    import fcntl
    import threading

    (tmp_path / "lock").touch()
    file = (tmp_path / "lock").open()
    fcntl.flock(file, fcntl.LOCK_SH)
    threading.Timer(0.3, file.close).start()
    began = time.monotonic()
    with RunFolderLock(tmp_path):
        assert time.monotonic() - began > 0.2
