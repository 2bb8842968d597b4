"""Intervals of the toy's learning curves over training seeds, and differences between curves, worked by hand."""

from math import sqrt

import pytest

from benchmarks.experiments.toy.curves import curve_line, gaps, over_seeds
from benchmarks.experiments.toy.results import Row
from benchmarks.experiments.toy.text import curve_gaps
from tests.benchmarks.test_toy_table import row_of_curves

T_2 = sqrt(2 * 0.95**2 / (1 - 0.95**2))
"""Student's quantile of two degrees of freedom, whose distribution is t / √(2 + t²) on either side."""


def flat(arm: str, passes: int, updates: tuple[int, ...], *runs: tuple[float, ...]) -> Row:
    return row_of_curves(arm, passes, *(list(zip(updates, scores, strict=True)) for scores in runs))


def test_the_interval_over_seeds_is_students():
    assert pytest.approx(4.302653, abs=1e-6) == T_2
    # the standard deviation is 0.1
    assert over_seeds([0.6, 0.8, 0.7]) == pytest.approx((0.7, 0.7 - T_2 * 0.1 / sqrt(3), 0.7 + T_2 * 0.1 / sqrt(3)))
    assert over_seeds([0.6]) is None


def test_a_band_opens_at_the_base_and_one_seed_has_none():
    line = curve_line(flat("sft", 100, (10, 20), (0.6, 0.7), (0.7, 0.7), (0.8, 0.7)), 2, base=0.5, scale=3)
    assert line.points == [(0, 0.5), (30, pytest.approx(0.7)), (60, pytest.approx(0.7))]
    half = T_2 * 0.1 / sqrt(3)
    assert line.low == pytest.approx([0.5, 0.7 - half, 0.7]) and line.high == pytest.approx([0.5, 0.7 + half, 0.7])
    assert curve_line(flat("sft", 100, (10,), (0.6,)), 2, base=0.5).low is None


def test_curves_are_compared_at_equal_updates_at_equal_passes_and_at_their_best():
    first = flat("indicator_initial", 800, (10, 20), (0.7, 0.6), (0.8, 0.7), (0.9, 0.8))
    rows = [
        flat("base", 0, (0,), (0.5,)),
        first,
        # half of the passes of one update: 400 passes are 20 updates here and 10 there
        flat("dpo_sft", 400, (10, 20), (0.5, 0.4), (0.5, 0.5), (0.5, 0.9)),
        # an eighth: 100 passes are 2.5 updates there, before the first point
        flat("sft", 100, (10, 20), (0.6, 0.7), (0.6, 0.7), (0.6, 0.7)),
        flat("sft_matched", 800, (80, 160), (0.6, 0.6), (0.6, 0.6), (0.6, 0.6)),
        flat("kto", 400, (10, 20), (0.5, 0.4), (0.5, 0.5), (0.5, 0.9)),
    ]
    sft, matched, dpo = gaps(rows)
    assert [gap.against for gap in (sft, matched, dpo)] == ["sft", "sft_matched", "dpo_sft"]

    def students(*differences: float) -> object:
        mean = sum(differences) / 3
        half = T_2 * sqrt(sum((one - mean) ** 2 for one in differences) / 2 / 3)
        return pytest.approx((mean, mean - half, mean + half))

    assert (dpo.update, dpo.passes, dpo.seeds) == (20, 400, 3)
    assert dpo.at_update == students(0.2, 0.2, -0.1)
    assert dpo.at_passes == students(0.3, 0.3, 0.0)
    # FIRST is best after 10 updates, DPO after 20
    assert dpo.at_best == students(0.3, 0.3, 0.0)
    assert sft.passes == 100 and sft.at_passes is None
    assert matched.at_update is None and matched.at_passes == students(0.0, 0.1, 0.2)
    assert matched.at_best == students(0.1, 0.2, 0.3)
    lines = curve_gaps(rows)
    assert lines[2] == "| SFT | 3 | 20: +.000 (-.248 to +.248) | – | +.100 (-.148 to +.348) |"
    assert "| SFT, compute-matched | 3 | – | 0.8k: +.100 (-.148 to +.348) | +.200 (-.048 to +.448) |" in lines


def test_pairs_are_of_one_seed_and_what_cannot_be_compared_is_left_out():
    first = flat("indicator_initial", 200, (10,), (0.7,), (0.8,), (0.9,))
    late = flat("sft", 200, (10,), (0.5,), (0.6,))
    # seeds 2 and 3, which are the last two of the first arm
    (gap,) = gaps([first, Row(**vars(late) | {"seeds": (2, 3)})])
    assert gap.seeds == 2 and gap.at_best == pytest.approx((0.3, 0.3, 0.3))
    assert gaps([first, Row(**vars(late) | {"seeds": (3, 4)})]) == [] and gaps([late]) == []
    assert curve_gaps([first]) == []
