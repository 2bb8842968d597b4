"""Precision, recall and their intervals: against counting by hand, scipy's bootstrap, and signs that know nothing."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.evaluation.anchor.validity import by_bin, in_bins, validity


def test_by_hand():
    plus = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 1]], dtype=bool)
    # the reference's sample is worse for the first two, better for the third, and as good for the last
    found = validity(plus, np.array([0.2, 0.1, -0.3, 0.0]), ["a", "b", "c", "d"])
    assert (found.draws, found.tied) == (9, 1)
    expected = {"share_plus": 6 / 9, "base_rate": 6 / 9, "precision": 3 / 6, "recall": 3 / 6,
                "precision_minus": 0 / 3, "recall_minus": 0 / 3, "gain": 3 / 6 - 6 / 9}  # fmt: skip
    for name, value in expected.items():
        interval = getattr(found, name)
        assert (
            interval.value == pytest.approx(value) and interval.low <= value + 1e-12 and interval.high >= value - 1e-12
        )


def test_a_sign_that_is_the_judge_and_one_that_is_its_opposite():
    margin = np.random.default_rng(0).normal(size=50)
    captions = [str(number) for number in range(50)]
    right = validity(np.repeat((margin > 0)[:, None], 4, 1), margin, captions)
    assert right.precision.value == right.recall.value == right.precision_minus.value == 1
    wrong = validity(np.repeat((margin < 0)[:, None], 4, 1), margin, captions)
    assert wrong.precision.value == wrong.recall.value == 0 and wrong.gain.high < 0


def test_a_sign_that_knows_nothing_gains_nothing():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(40):
        margin = generator.normal(0.3, 1, size=80)
        plus = generator.random((80, 5)) < 0.6
        found = validity(plus, margin, [str(n) for n in range(80)])
        covered += found.gain.low <= 0 <= found.gain.high
    assert covered >= 34


def test_the_interval_is_that_of_a_bootstrap_over_captions():
    generator = np.random.default_rng(2)
    groups = generator.integers(2, 5, size=30)
    captions = [str(caption) for caption, count in enumerate(groups) for _ in range(count)]
    margin = generator.normal(0.2, 1, size=len(captions))
    plus = generator.random((len(captions), 6)) < np.where(margin > 0, 0.7, 0.4)[:, None]
    found = validity(plus, margin, captions)
    # the same over rows of sums, one per caption
    names = np.array(captions)
    sums = np.array(
        [
            [(plus[names == n].sum(1) * (margin[names == n] > 0)).sum(), plus[names == n].sum()]
            for n in map(str, range(30))
        ]
    )
    theirs = stats.bootstrap(
        (sums[:, 0], sums[:, 1]), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, n_resamples=8000,
        method="percentile", rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    assert found.precision.low == pytest.approx(theirs.low, abs=0.02)
    assert found.precision.high == pytest.approx(theirs.high, abs=0.02)
    alone = validity(plus, margin, [str(n) for n in range(len(captions))])
    assert alone.precision.value == found.precision.value


def test_items_of_one_caption_are_one_unit():
    """Eight copies of each of twelve items say no more than the twelve."""
    generator = np.random.default_rng(4)
    margin, plus = generator.normal(size=12), generator.random((12, 3)) < 0.5
    captions = [str(number) for number in range(12)]
    once = validity(plus, margin, captions)
    copies = validity(np.repeat(plus, 8, 0), np.repeat(margin, 8), [name for name in captions for _ in range(8)])
    for name in ("precision", "recall", "share_plus", "gain"):
        assert getattr(copies, name) == pytest.approx(getattr(once, name))
    apart = validity(np.tile(plus, (8, 1)), np.tile(margin, 8), [str(n) for n in range(96)])
    assert apart.recall.high - apart.recall.low < 0.6 * (once.recall.high - once.recall.low)


def test_bins_see_their_own_timesteps_alone():
    u = np.tile(np.array([0.05, 0.15, 0.55, 0.65, 0.999999]), (6, 1))
    assert in_bins(u, 5)[0].tolist() == [0, 0, 2, 3, 4]
    u = np.tile(np.array([0.1, 0.3, 0.6, 0.9]), (6, 1))
    margin = np.array([1.0, 1, 1, -1, -1, -1])
    plus = np.zeros((6, 4), dtype=bool)
    plus[:3, :2] = True
    plus[:, 2:] = True
    found = by_bin(plus, u, margin, list("abcdef"), 2)
    assert found[0].precision.value == 1 and found[0].recall_minus.value == 1
    assert found[1].precision.value == 0.5 and found[1].precision_minus is None
    with pytest.raises(ValueError, match="draw them by stratum"):
        by_bin(plus, np.where(np.arange(6)[:, None] < 3, u, 0.1), margin, list("abcdef"), 2)


def test_nothing_to_count():
    plus = np.ones((3, 2), dtype=bool)
    tied = validity(plus, np.zeros(3), list("abc"))
    assert (tied.draws, tied.tied, tied.precision, tied.gain) == (0, 3, None, None)
    with pytest.raises(ValueError, match="1 margins are not finite"):
        validity(plus, np.array([1.0, np.nan, 2]), list("abc"))
    with pytest.raises(ValueError, match="do not fit"):
        validity(plus, np.zeros(2), list("abc"))
