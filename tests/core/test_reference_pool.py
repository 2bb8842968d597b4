"""The pool of references: what each strategy draws, and that its snapshots are safe."""

from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from seppo_core.reference import ReferencePool


def test_initial_and_latest(tmp_path):
    assert [ReferencePool(tmp_path, "initial").draw(k) for k in range(5)] == [0, 0, 0, 0, 0]
    assert [ReferencePool(tmp_path, "latest").draw(k) for k in range(5)] == [0, 1, 2, 3, 4]


def test_random_is_uniform_over_all_saved_so_far_the_initial_weights_among_them(tmp_path):
    draws = Counter(ReferencePool(tmp_path, "random", seed).draw(3) for seed in range(2000))
    assert sorted(draws) == [0, 1, 2, 3]
    assert chisquare([draws[k] for k in range(4)]).pvalue > 1e-3
    assert {ReferencePool(tmp_path, "random", seed).draw(0) for seed in range(20)} == {0}


def test_draw_depends_on_seed_and_iteration_alone(tmp_path):
    pool = ReferencePool(tmp_path / "a", "random", seed=3)
    first = [pool.draw(k) for k in range(20)]
    torch.manual_seed(99)
    other = ReferencePool(tmp_path / "b", "random", seed=3)
    assert [other.draw(k) for k in reversed(range(20))] == first[::-1]
    assert first != [ReferencePool(tmp_path, "random", seed=4).draw(k) for k in range(20)]


def test_snapshots_come_back_and_are_not_overwritten(tmp_path):
    pool = ReferencePool(tmp_path, "latest")
    pool.save(0, {"w": torch.ones(2)})
    pool.save(1, {"w": torch.full((2,), 3.0)})
    pool.save(0, {"w": torch.zeros(2)})
    assert pool.load(0)["w"].tolist() == [1, 1]
    assert pool.load(1)["w"].tolist() == [3, 3]


def test_missing_snapshot_and_unknown_strategy_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"snapshot-0007\.safetensors is missing"):
        ReferencePool(tmp_path).load(7)
    with pytest.raises(ValueError, match='"random", "latest" or "initial"'):
        ReferencePool(tmp_path, "newest").draw(1)
