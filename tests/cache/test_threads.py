"""A cache that several threads read at once."""

import sys
from concurrent.futures import ThreadPoolExecutor

import torch

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from tests.cache.winners import ListSource, PixelAdapter


def test_threads_that_put_one_another_s_shards_away(tmp_path):
    captions = [f"a {number}" for number in range(12)]
    prepare(PixelAdapter(), ListSource(captions), tmp_path, model="tiny", shard_size=1, progress=False)
    cache, alone = WinnerCache(tmp_path), WinnerCache(tmp_path)
    cache._items.mapped = 1
    means = [alone.posterior([number], [False]).mean for number in range(12)]

    def read(step: int) -> bool:
        places = [number * step % 12 for number in range(40)]
        return all(torch.equal(cache.posterior([place], [False]).mean, means[place]) for place in places)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, (1, 5, 7, 11)))
    finally:
        sys.setswitchinterval(interval)
