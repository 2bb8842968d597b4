"""The loader's benchmark, small: it prepares and loads what it says, and its log holds it."""

import mmap
from dataclasses import asdict

from benchmarks.experiments.loader import permutation_seconds
from benchmarks.experiments.loader_phases import Task, memory_log, read_log, read_memory, run_load, run_prepare
from benchmarks.experiments.standin import TINY
from seppo_core.cache.reader import WinnerCache


def test_phases_prepare_and_load_the_set(tmp_path):
    task = Task(str(tmp_path), 300, asdict(TINY), "prepare", batch_size=16)
    assert run_prepare(task) > 0
    cache = WinnerCache(tmp_path / "cache")
    assert (len(cache), cache.manifest.captions) == (300, 22)
    found = cache.posterior([7], [False]).mean[0]
    assert found.shape == (4, 16, 16) and (found == 7 / 127.5 - 1).all()
    assert read_log(tmp_path / "prepare.jsonl")
    for threads in (0, 2):
        assert run_load(Task(str(tmp_path), 300, asdict(TINY), "load", 16, 10, threads)) > 0


def test_memory_is_counted_as_it_grows(tmp_path):
    before = read_memory()
    with memory_log(tmp_path / "log.jsonl", lambda: 3, interval=0.01):
        # pages of its own: what the allocator has kept from before would be resident already
        held = mmap.mmap(-1, 80_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        held[::4096] = b"x" * len(range(0, 80_000_000, 4096))
        after = read_memory()
    assert 70 < after["own"] - before["own"] < 90 and len(held) == 80_000_000
    assert read_log(tmp_path / "log.jsonl")[0]["done"] == 3


def test_the_place_of_an_item_is_found_at_once():
    assert permutation_seconds(10**5) < 1
