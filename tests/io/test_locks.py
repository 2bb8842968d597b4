"""One process in a run folder, and always the same folder; one launch in a cache."""

import errno
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import seppo_core.io.locks
from seppo_core.io.atomic import save_text, whole_folder
from seppo_core.io.locks import FolderLock, LaunchLock, ReadersLock, holder_of

HOLD = """
import sys, time
from pathlib import Path
from seppo_core.io.locks import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in tmp_path."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        # whatever happens, no process and no open pipe is left, which pytest would report in some later test
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(seppo_core.io.locks, "PATIENCE", 0.0)
    assert f"process {holder.pid} on " in holder_of(tmp_path)
    with pytest.raises(ValueError, match=rf"process {holder.pid} on "):
        with FolderLock(tmp_path):
            pytest.fail("two processes hold one run")


def test_the_lock_goes_with_a_kill(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert holder_of(tmp_path) is None
    with FolderLock(tmp_path):
        pass


def test_looking_takes_no_lock_that_lasts(tmp_path):
    with FolderLock(tmp_path):
        pass
    for _ in range(3):
        assert holder_of(tmp_path) is None
    with FolderLock(tmp_path):
        assert holder_of(tmp_path) is not None
    assert holder_of(tmp_path / "nothing") is None


def test_the_same_folder_passes(tmp_path):
    with FolderLock(tmp_path / "run") as place:
        (tmp_path / "run" / "file").write_text("x")
        place.check()


def test_a_folder_that_vanished_is_told(tmp_path):
    with FolderLock(tmp_path / "run") as place:
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        with pytest.raises(OSError, match=r"/run is no longer"):
            place.check()
        assert not (tmp_path / "run").exists(), "looking must not make it"


def test_another_folder_in_its_place_is_told(tmp_path):
    """What an unmount leaves: the empty folder that the disk was mounted on."""
    with FolderLock(tmp_path / "run") as place:
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        (tmp_path / "run").mkdir()
        with pytest.raises(OSError, match=r"/run is no longer"):
            place.check()


def test_a_lock_is_shared_by_a_launch_and_free_once_all_of_it_is_gone(tmp_path):
    first, second, other = (LaunchLock(tmp_path / "parts") for _ in range(3))
    first.begin()
    second.join()
    with pytest.raises(ValueError, match=f"process {os.getpid()} on "):
        other.begin()
    first.release()
    with pytest.raises(ValueError, match=f"{tmp_path} .*`prepare`"):
        other.begin()
    second.release()
    other.begin()
    other.release()


def test_without_shared_locks_the_first_process_of_a_launch_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(seppo_core.io.locks, "fcntl", None)
    first, second, other = (LaunchLock(tmp_path / "parts") for _ in range(3))
    first.begin()
    second.join()
    with pytest.raises(ValueError, match=f"{tmp_path} .*`prepare`"):
        other.begin()
    first.release()
    other.begin()
    other.release()


def test_readers_share_a_cache_and_keep_writers_away(tmp_path):
    with ReadersLock(tmp_path / "parts").share(), ReadersLock(tmp_path / "parts").share() as second:
        with pytest.raises(ValueError, match=rf"{tmp_path} is being read by a run \(process {os.getpid()} on .*cache"):
            ReadersLock(tmp_path / "parts").exclude()
        assert second is not None
    with ReadersLock(tmp_path / "parts") as writer:
        writer.exclude()
        with pytest.raises(ValueError, match=rf"written by `prepare` \(process {os.getpid()} on "):
            ReadersLock(tmp_path / "parts").share()
    assert ReadersLock(tmp_path / "none" / "parts").share() is not None


def test_training_is_a_reader_until_it_ends(tmp_path, monkeypatch):
    from seppo_core.cli import commands

    def build(*_):
        with pytest.raises(ValueError, match="read by a run"):
            ReadersLock(tmp_path / "parts").exclude()
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "build", build)
    with pytest.raises(KeyboardInterrupt):
        commands.train(SimpleNamespace(data=SimpleNamespace(cache=str(tmp_path))), load=None)
    with ReadersLock(tmp_path / "parts") as writer:
        writer.exclude()


def test_a_reader_that_may_not_write_locks_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "readers").touch()
    opened = type(tmp_path).open

    def read_only(path, mode="r", **options):
        if mode != "r":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, mode, **options)

    with monkeypatch.context() as disk:
        disk.setattr(type(tmp_path), "open", read_only)
        reader = ReadersLock(tmp_path / "parts").share()
        (tmp_path / "bare").mkdir()
        ReadersLock(tmp_path / "bare" / "parts").share()
    with reader, pytest.raises(ValueError, match="read by a run"):
        ReadersLock(tmp_path / "parts").exclude()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_disks_without_locks_or_flushing_are_worked_on_with_a_word(tmp_path, monkeypatch, capsys, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("os.fsync", refuse)
    monkeypatch.setattr("seppo_core.io.atomic._unflushed", set())
    with (
        LaunchLock(tmp_path / "parts") as lock,
        LaunchLock(tmp_path / "parts") as other,
        ReadersLock(tmp_path / "parts") as writer,
        FolderLock(tmp_path / "run"),
    ):
        lock.begin()
        other.join()
        writer.exclude()
        save_text(tmp_path / "a.txt", "a")
        save_text(tmp_path / "b.txt", "b")
    with whole_folder(tmp_path / "c") as folder:
        (folder / "d").write_text("d")
    assert (tmp_path / "b.txt").read_text() == "b" and (tmp_path / "c" / "d").exists()
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "cannot be locked" in line and os.strerror(number) in line]) == 3
    assert len([line for line in said if "cannot be flushed" in line and str(tmp_path) in line]) == 1


WITHOUT_FCNTL = """
import importlib, pkgutil, sys
import seppo_core, seppo_image, seppo_video
sys.modules["fcntl"] = sys.modules["torch"] = None
imported = 0
for package in (seppo_core, seppo_image, seppo_video):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(module.name)
            imported += 1
        except ImportError as error:
            assert "torch" in str(error) or "diffusers" in str(error), (module.name, error)
print(imported)
"""


def test_every_module_without_torch_imports_where_fcntl_is_absent():
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", WITHOUT_FCNTL], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout.splitlines()[-1]) > 50


def test_waits_for_a_status_that_looks(tmp_path):
    """A look holds the lock for an instant; a start at that instant must not be refused."""
    import fcntl
    import threading

    (tmp_path / "lock").touch()
    file = (tmp_path / "lock").open()
    fcntl.flock(file, fcntl.LOCK_SH)
    threading.Timer(0.3, file.close).start()
    began = time.monotonic()
    with FolderLock(tmp_path):
        assert time.monotonic() - began > 0.2
