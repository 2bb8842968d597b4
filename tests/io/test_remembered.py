"""Hashes of files that are remembered between commands: never of another content, whatever happens to the memory."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from seppo_core.io import remembered
from seppo_core.io.remembered import memory_file, remembered_sha256


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A memory of its own, and a function that forgets what this process knows of it."""
    monkeypatch.setenv("SEPPO_CACHE_HOME", str(tmp_path / "cache"))
    reads = []
    whole = remembered.sha256_file
    monkeypatch.setattr(remembered, "sha256_file", lambda path: reads.append(path) or whole(path))

    def fresh() -> list:
        monkeypatch.setattr(remembered, "_known", {})
        monkeypatch.setattr(remembered, "_read", {})
        reads.clear()
        return reads

    fresh()
    return fresh


def settle(path):
    """Makes the file's last change lie far enough back."""
    while time.time_ns() - path.stat().st_ctime_ns < 2 * remembered.SETTLED_NS:
        time.sleep(0.01)


def digest(path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once_and_again_when_it_changed(memory, tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    assert remembered_sha256(file) == digest(file)
    assert not memory_file().exists(), "a change within the clock's tick would not show"
    settle(file)
    times = file.stat()
    reads = memory()
    assert {remembered_sha256(file), remembered_sha256(file)} == {digest(file)} and len(reads) == 1
    reads = memory()
    assert remembered_sha256(file) == digest(file) and not reads, "another process read it"
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert remembered_sha256(file) == digest(file) and len(reads) == 1


def test_a_memory_that_is_damaged_or_cannot_be_written_costs_time_only(memory, tmp_path):
    files = [tmp_path / str(number) for number in range(3)]
    for file in files:
        file.write_text(file.name)
    settle(files[-1])
    for file in files:
        remembered_sha256(file)
    lines = memory_file().read_bytes().split(b"\n")
    lines[1] = lines[1].replace(digest(files[0])[:8].encode(), b"01234567")
    memory_file().write_bytes(b"\n".join(lines)[:-20])
    reads = memory()
    assert [remembered_sha256(file) for file in files] == list(map(digest, files))
    assert reads == [files[0], files[2]]
    reads = memory()
    assert [remembered_sha256(file) for file in files] == list(map(digest, files)) and not reads
    memory_file().unlink()
    memory_file().mkdir()
    memory()
    assert [remembered_sha256(file) for file in files] == list(map(digest, files))


def test_writers_at_the_same_time_and_a_memory_that_grows(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "LARGEST_MEMORY", 2000)
    files = [tmp_path / str(number) for number in range(40)]
    for file in files:
        file.write_text(file.name)
    settle(files[-1])
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(remembered_sha256, files)) == list(map(digest, files))
    assert memory_file().stat().st_size < 2500
    reads = memory()
    assert [remembered_sha256(file) for file in files] == list(map(digest, files))
    assert 0 < len(reads) < len(files)
