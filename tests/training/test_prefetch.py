"""Prefetching changes when values are made, and nothing else."""

import threading
import time

import pytest
import torch

from seppo_core.io.rng import keyed_normal
from seppo_core.training.prefetch import Prefetch


@pytest.mark.parametrize(("ahead", "threads"), [(0, 1), (1, 1), (2, 1), (5, 3)])
def test_values_and_their_order_are_those_of_making_each_at_once(ahead, threads):
    def make(key: int) -> torch.Tensor:
        # later ones are made faster
        time.sleep(0.002 * (key % 3 == 0))
        return keyed_normal((3,), "value", key)

    with Prefetch(make, range(20), ahead, threads) as values:
        found = list(values)
    assert all(torch.equal(a, keyed_normal((3,), "value", key)) for key, a in enumerate(found)) and len(found) == 20


@pytest.mark.parametrize("ahead", [0, 3])
def test_an_exception_comes_where_its_value_would_have(ahead):
    def make(key: int) -> int:
        if key == 2:
            raise ValueError("planted")
        return key

    with Prefetch(make, range(9), ahead) as values:
        assert (next(values), next(values)) == (0, 1)
        with pytest.raises(ValueError, match="planted"):
            next(values)


def test_no_more_than_ahead_is_made_before_it_is_asked_for():
    made: list[int] = []
    with Prefetch(lambda key: made.append(key) or key, range(100), ahead=3) as values:
        assert next(values) == 0
        time.sleep(0.05)
        assert made == [0, 1, 2, 3]
        next(values)
        time.sleep(0.05)
        assert made == [0, 1, 2, 3, 4]
    with pytest.raises(StopIteration):
        next(values)


def test_waiting_is_measured():
    """Each value takes 30 ms to make and 50 to use: without threads all of the making is waited for, with one only the
    first."""
    waits = {}
    for ahead in (0, 2):
        with Prefetch(lambda key: time.sleep(0.03) or key, range(5), ahead) as values:
            for _ in values:
                time.sleep(0.05)
            waits[ahead] = values.waited
    assert 0.15 <= waits[0] and 0.03 <= waits[2] < waits[0] - 0.06


def test_the_next_is_made_while_one_is_used():
    with Prefetch(lambda key: time.sleep(0.03) or key, range(10), ahead=1) as values:
        next(values)
        start = time.perf_counter()
        for _ in range(9):
            time.sleep(0.03)
            next(values)
        together = time.perf_counter() - start
    # one after the other they would take 0.54 s
    assert together < 0.45


def test_threads_end_with_it_and_bad_numbers_are_refused():
    with Prefetch(lambda key: key, range(9), ahead=2) as values:
        next(values)
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    with pytest.raises(ValueError, match="ahead -1"):
        Prefetch(lambda key: key, [], ahead=-1)
