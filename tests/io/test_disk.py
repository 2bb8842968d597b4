"""A full, read-only or vanished disk: told in words, and nothing half-written is left or taken for whole.

On real file systems of a megabyte where this user may mount one; the rest plants the error at the write call.
"""

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from seppo_core.io.atomic import save_tensors, save_text, whole_folder
from seppo_core.io.disk_errors import DiskError, explain_disk_errors, explanation
from seppo_core.run.checkpoint import Checkpoint, CheckpointFolder, Progress, load_checkpoint
from seppo_core.run.logging import RunLog

MEGABYTE = 2**20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def checkpoint(update: int, values: int = 1000) -> Checkpoint:
    weights = {"w": torch.full((values,), float(update))}
    return Checkpoint(Progress(update), weights, {"moments": torch.zeros(values)}, {}, {})


def test_a_full_disk_leaves_the_last_checkpoint_whole(small_disk):
    folder = CheckpointFolder(small_disk / "checkpoints", keep=1)
    folder.save(checkpoint(1))
    with pytest.raises(DiskError, match=r"update-000002.*disk is full"):
        folder.save(checkpoint(2, values=MEGABYTE))
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["update-000001"]
    assert load_checkpoint(folder.latest()).policy["w"][0] == 1
    # once there is room the same call goes through
    folder.save(checkpoint(2))
    assert load_checkpoint(folder.latest()).policy["w"][0] == 2


@pytest.mark.parametrize("room", [20_000, 6_000, 600], ids=["optimizer", "weights", "at once"])
def test_wherever_the_disk_fills_up_in_a_checkpoint(small_disk, room):
    """The weights are written by safetensors and the optimiser by torch: each hides the error in its own way."""
    folder = CheckpointFolder(small_disk / "checkpoints", keep=1)
    folder.save(checkpoint(1, values=10))
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(bytes(free - room))
    with pytest.raises(DiskError, match="disk is full"):
        folder.save(checkpoint(2, values=4000))
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["update-000001"]


def test_a_read_only_disk(small_disk):
    folder = CheckpointFolder(small_disk / "checkpoints")
    folder.save(checkpoint(1))
    remount(small_disk, "ro")
    with pytest.raises(DiskError, match=r"update-000002.*read-only"):
        folder.save(checkpoint(2))
    with pytest.raises(DiskError, match="read-only"):
        save_text(small_disk / "new" / "file", "x")
    remount(small_disk, "rw")
    assert folder.latest().name == "update-000001"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_metrics_on_a_full_disk(small_disk):
    before = set(threading.enumerate())
    with pytest.raises(DiskError, match="disk is full"), RunLog(small_disk, 0) as log:
        log.write(1, {"loss": 1.0})
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "filler").write_bytes(bytes(free))
        for update in range(2, 4000):
            log.write(update, {"loss": 1.0})
    # tensorboard's thread, whose end would else be the next test's failure
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    (small_disk / "filler").unlink()
    log = RunLog(small_disk, 1)
    log.write(2, {"loss": 2.0})
    log.close()
    from seppo_core.run.history import read_metrics

    assert [line["update"] for line in read_metrics(small_disk)] == [1, 2]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some of your quota"),
        (errno.EIO, "was it unmounted"),
        (errno.ESTALE, "mount its disk again"),
        (errno.EACCES, "change its permissions"),
    ],
)
def test_planted_at_the_write_call(tmp_path, monkeypatch, number, cure):
    (tmp_path / "file").write_text("before")

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(DiskError, match=cure) as caught:
        save_text(tmp_path / "file", "after")
    assert caught.value.errno == number
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_limit_on_file_sizes_is_real_and_told(tmp_path):
    """RLIMIT_FSIZE, which any user can set: the kernel refuses in the middle of a file."""
    code = (
        "import resource, signal, torch, sys\n"
        "from pathlib import Path\n"
        "from seppo_core.io.atomic import save_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "try:\n"
        "    save_tensors(Path(sys.argv[1]), {'w': torch.zeros(10000)})\n"
        "except OSError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "weights.safetensors")], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("DiskError"), done.stderr
    assert "raise the limit on file sizes" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no disk"),
        RuntimeError("shapes differ"),
        SafetensorError("header too small"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_pass_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, explain_disk_errors(tmp_path / "x"):
        raise error
    assert caught.value is error
    assert explanation(error) is None


def test_an_error_is_told_once(tmp_path):
    inner = DiskError(errno.ENOSPC, "the first words")
    with pytest.raises(DiskError, match="the first words"), explain_disk_errors(tmp_path):
        raise inner
    assert explanation(inner) == "the first words"
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/data/model.safetensors")
    assert explanation(elsewhere).startswith("/data/model.safetensors: Permission denied; change its permissions")


def test_a_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(DiskError), whole_folder(tmp_path / "export") as temporary:
        save_tensors(temporary / "a.safetensors", {"w": torch.zeros(3)})
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
