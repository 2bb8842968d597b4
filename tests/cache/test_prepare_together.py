"""Several processes fill one cache, and two launches never do."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed import HashStore

from seppo_core.cache.prepare import prepare
from seppo_core.data.source import Item
from seppo_core.distributed import progress
from seppo_core.distributed.progress import RankProgress
from seppo_core.distributed.ranks import Ranks
from seppo_core.distributed.store import RunStore
from tests.cache.test_prepare import BAD, CAPTIONS, OPTIONS, content
from tests.cache.winners import ListSource, PixelAdapter
from tests.training.together import forkserver, free_port, limit_time


class SlowAdapter(PixelAdapter):
    """Leaves time to be killed."""

    def encode(self, pixels):
        time.sleep(0.05)
        return super().encode(pixels)


def one(folder: Path, rank: int, world: int, port: int, slow: bool, fails: int | None, told) -> None:
    """A process of a launch."""
    import torch

    limit_time()
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    os.environ |= {"LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    from accelerate import Accelerator

    adapter = SlowAdapter() if slow else PixelAdapter()
    if fails == rank:
        adapter.encode = lambda pixels: (_ for _ in ()).throw(ValueError("planted"))
    try:
        ranks = Ranks.of(Accelerator())
        prepare(adapter, ListSource(CAPTIONS * 5, BAD), folder, ranks=ranks, **OPTIONS)
        told.put((rank, "done", sum(adapter.calls)))
    except ValueError as error:
        told.put((rank, str(error), 0))
    except SystemExit as left:
        told.put((rank, "left", left.code))


def launch(folder: Path, world: int, slow: bool = False, fails: int | None = None):
    port = free_port()
    context = forkserver()
    told = context.Queue()
    processes = [
        context.Process(target=one, args=(folder, rank, world, port, slow, fails, told)) for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes, told


def outcomes(processes, told) -> dict[int, tuple]:
    found = sorted(told.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    return {rank: rest for rank, *rest in found}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("alone") / "cache"
    prepare(PixelAdapter(), ListSource(CAPTIONS * 5, BAD), folder, **OPTIONS)
    return content(folder)


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_write_the_same_bytes_and_each_does_its_part(tmp_path, alone, world):
    found = outcomes(*launch(tmp_path / "cache", world))
    assert [told for told, _ in found.values()] == ["done"] * world
    encoded = [count for _, count in found.values()]
    # two rows of each of the 94 items that can be used
    assert sum(encoded) == 188 and min(encoded) > 188 / world / 2
    assert content(tmp_path / "cache") == alone


def test_killed_and_run_again_by_another_number_of_processes_gives_the_same_bytes(tmp_path, alone):
    folder = tmp_path / "cache"
    processes, _ = launch(folder, 2, slow=True)
    while len(list((folder / "parts").glob("items-*.json"))) < 4:
        time.sleep(0.02)
    with pytest.raises(ValueError, match=f"{folder} .*`prepare`"):
        prepare(PixelAdapter(), ListSource(CAPTIONS * 5, BAD), folder, **OPTIONS)
    os.kill(processes[0].pid, signal.SIGKILL)
    processes[0].join()
    # the other is an orphan that writes on
    with pytest.raises(ValueError, match=f"{folder} .*`prepare`"):
        prepare(PixelAdapter(), ListSource(CAPTIONS * 5, BAD), folder, **OPTIONS)
    os.kill(processes[1].pid, signal.SIGKILL)
    processes[1].join()
    assert not (folder / "manifest.json").exists()
    adapter = PixelAdapter()
    prepare(adapter, ListSource(CAPTIONS * 5, BAD), folder, **OPTIONS)
    assert content(folder) == alone and 0 < sum(adapter.calls) < 188


def test_where_one_process_fails_all_end_and_one_says_why(tmp_path):
    found = outcomes(*launch(tmp_path / "cache", 2, slow=True, fails=True))
    assert found == {0: ["left", 2], 1: ["planted", 0]}


def tell(store: HashStore, rank: int, **counts: int) -> RankProgress:
    ranks = Ranks(rank, 2)
    told = RankProgress(RunStore(ranks, store), ranks, visible=False)
    told.begin("encode", 100, 10, " images")
    told.add(**({"done": 0} | counts))
    told._update(at_once=True)
    return told


def test_counts_are_of_all_processes(capsys):
    store, ranks = HashStore(), Ranks(0, 2)
    tell(store, 1, done=20, kept=15, rejected=5)
    with RankProgress(RunStore(ranks, store), ranks, visible=True) as shown:
        shown.begin("encode", 100, 10, " images")
        shown.add(30, kept=29, rejected=1)
        shown._update(at_once=True)
        assert (shown.total("done"), shown.total("kept"), shown.total("rejected")) == (50, 44, 6)
        shown._bar.refresh()
    assert "60/100" in capsys.readouterr().err


def test_a_failed_process_and_a_silent_one_end_the_wait(monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.02)
    monkeypatch.setattr(progress, "PATIENCE", 0.4)
    store = HashStore()
    waiting = tell(store, 0)
    until = time.monotonic() + 0.8
    # one that takes long over an item lives all the same, and one that has gone when all was done is not missed
    with tell(store, 1):
        waiting.wait(lambda: time.monotonic() > until)
    waiting.wait(lambda: time.monotonic() > until + 0.6)
    store = HashStore()
    waiting = tell(store, 0)
    tell(store, 1)
    with pytest.raises(TimeoutError, match="process 1 of 2 was killed or hangs"):
        waiting.wait(lambda: False)
    with pytest.raises(ValueError, match="planted"), tell(store, 1):
        raise ValueError("planted")
    with pytest.raises(SystemExit) as left:
        waiting.wait(lambda: False)
    assert left.value.code == 2


def test_the_texts_count_for_the_disk(tmp_path, monkeypatch, capsys):
    free = {"bytes": 10**9}
    monkeypatch.setattr("seppo_core.io.space.shutil.disk_usage", lambda _: SimpleNamespace(free=free["bytes"]))

    class Counting(ListSource):
        def distinct_captions(self):
            return len(set(self.captions))

    latents, texts = 2 * 2 * 12 * 4 * 4 * 4 * len(CAPTIONS), 8 * (6 * 4 * 4 + 6)
    free["bytes"] = latents + texts
    prepare(PixelAdapter(), Counting(CAPTIONS), tmp_path / "fits", **OPTIONS)
    free["bytes"] -= 1
    with pytest.raises(OSError, match="latents and texts"):
        prepare(PixelAdapter(), Counting(CAPTIONS), tmp_path / "no", **OPTIONS)

    class Filling(ListSource):
        def item(self, position: int) -> Item:
            free["bytes"] = texts - 1
            return super().item(position)

    # how many captions there are was not known before the items were read
    with pytest.raises(OSError, match="GB for texts"):
        prepare(PixelAdapter(), Filling(CAPTIONS), tmp_path / "late", **OPTIONS)
    # which is said where it may not be enough, and only there
    assert "perhaps not for the texts" in capsys.readouterr().out
    every = (len(CAPTIONS) + 1) * (6 * 4 * 4 + 6)
    free["bytes"] = latents + every
    prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "enough", **OPTIONS)
    assert "perhaps not for the texts" not in capsys.readouterr().out
    free["bytes"] -= 1
    prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "perhaps", **OPTIONS)
    assert "perhaps not for the texts" in capsys.readouterr().out
    free["bytes"] = latents
    with pytest.raises(OSError, match="latents alone"):
        prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "no", **OPTIONS)


def test_captions_are_counted_only_where_the_disk_may_be_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr("seppo_core.io.space.shutil.disk_usage", lambda _: SimpleNamespace(free=10**12))

    class Dear(ListSource):
        def distinct_captions(self):
            raise AssertionError("counted")

    prepare(PixelAdapter(), Dear(CAPTIONS), tmp_path / "cache", **OPTIONS)
