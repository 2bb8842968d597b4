"""What a killed process left is removed by the next one that writes the same; nothing that another still writes is."""

import os
import socket
import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seppo_core.io import atomic
from seppo_core.io.atomic import save_tensors, save_text, whole_file, whole_folder

HERE = blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
ELSEWHERE = "0" * 8
DAY = 24 * 3600
WRITE = """
import os, sys
from pathlib import Path
from seppo_core.io.atomic import whole_file
with whole_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    if sys.argv[2] == "die":
        os._exit(9)
    print("writing", flush=True)
    sys.stdin.read()
"""


def left(folder: Path, name: str, machine: str, process: int, age: float = 0, is_folder: bool = False) -> Path:
    """What a process may leave of `name`, last written `age` seconds ago."""
    path = folder / f".{name}.{machine}-{process}.tmp"
    if is_folder:
        path.mkdir()
        (path / "weights").touch()
    else:
        path.write_text("half")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    file = tmp_path / "metrics.json"
    assert subprocess.run([sys.executable, "-c", WRITE, str(file), "die"], check=False).returncode == 9
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    save_text(file, "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_living_writer_of_this_machine_is_left_alone(tmp_path):
    file = tmp_path / "metrics.json"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(file), "live"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == "writing\n"
    save_text(file, "mine")
    assert file.read_text() == "mine"
    writer.communicate("")
    assert writer.returncode == 0 and file.read_text() == "half"


@pytest.mark.parametrize("is_folder", [False, True])
def test_another_machine_s_process_cannot_be_asked_for(tmp_path, ended, is_folder):
    """The number of its process says nothing here, so that only age tells."""
    writing = left(tmp_path, "a", ELSEWHERE, ended, age=DAY / 2, is_folder=is_folder)
    forgotten = left(tmp_path, "a", ELSEWHERE, os.getpid(), age=2 * DAY, is_folder=is_folder)
    mine = left(tmp_path, "a", HERE, ended, is_folder=is_folder)
    with whole_folder(tmp_path / "a") if is_folder else whole_file(tmp_path / "a") as temporary:
        if not is_folder:
            temporary.touch()
        assert {path.name for path in tmp_path.iterdir()} == {writing.name, temporary.name}
    assert writing.exists() and not forgotten.exists() and not mine.exists()


def test_two_machines_with_the_same_process_number_write_apart(tmp_path):
    other = left(tmp_path, "a", ELSEWHERE, os.getpid())
    save_text(tmp_path / "a", "mine")
    assert other.read_text() == "half" and (tmp_path / "a").read_text() == "mine"


def test_names_that_look_alike_belong_to_others(tmp_path, ended):
    others = [left(tmp_path, name, HERE, ended) for name in ("ab", "b.a", "a.b")]
    others.append(tmp_path / ".a.mine-x.tmp")
    others[-1].touch()
    save_text(tmp_path / "a", "mine")
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_have_the_rights_that_the_umask_gives(tmp_path, monkeypatch, umask):
    """safetensors writes for the owner alone."""
    monkeypatch.setattr(atomic, "UMASK", umask)
    before = os.umask(umask)
    try:
        save_text(tmp_path / "text", "whole")
        save_tensors(tmp_path / "tensors", {"w": torch.zeros(1)})
        with whole_folder(tmp_path / "folder") as temporary:
            save_file({"w": torch.zeros(1)}, temporary / "tensors")
    finally:
        os.umask(before)
    files = (tmp_path / "text", tmp_path / "tensors", tmp_path / "folder" / "tensors")
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {oct(0o666 & ~umask)}
