"""Prefetches values in background threads; order and values are the same as without prefetching."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Prefetch(Generic[K, V]):
    """Iterates over `make(key)` for `keys`, in their order, up to `ahead` of them made by threads beforehand.

    What `make` gives must depend on its key alone, as a batch does that is drawn by (seed, update, index): then it is
    the same with any number of threads, and with none (`ahead=0`, which makes each when it is asked for). An exception
    of `make` is raised where its value would have come. Reading shards and drawing noise release the interpreter's
    lock, so that threads do; no process needs a copy of the cache. Leaving `with` waits for what is under way.
    """

    def __init__(self, make: Callable[[K], V], keys: Iterable[K], ahead: int = 2, threads: int = 1):
        if ahead < 0 or threads < 1:
            raise ValueError(f"ahead {ahead} must be at least 0 and threads {threads} at least 1")
        self._make, self._keys = make, iter(keys)
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch") if ahead else None
        self._waiting: deque[Future[V]] = deque()
        self.waited = 0.0
        """Seconds so far that values were asked for and not there yet."""

    def __iter__(self) -> Iterator[V]:
        return self

    def __next__(self) -> V:
        began = time.perf_counter()
        try:
            return self._next()
        finally:
            self.waited += time.perf_counter() - began

    def _next(self) -> V:
        if self._pool is None:
            return self._make(next(self._keys))
        self._fill()
        if not self._waiting:
            raise StopIteration
        value = self._waiting.popleft().result()
        # the next is begun before this one is used
        self._fill()
        return value

    def close(self) -> None:
        """Drops the values that were not asked for, and waits for those that are being made."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._waiting.clear()
        self._keys = iter(())

    def __enter__(self) -> "Prefetch[K, V]":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _fill(self) -> None:
        for key in islice(self._keys, self._ahead - len(self._waiting)):
            self._waiting.append(self._pool.submit(self._make, key))
