"""The statistics against scipy and closed forms."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.evaluation.coverage import TRIALS, cases, measure
from seppo_core.report.statistics import (
    Interval,
    crossed_interval,
    holm,
    mean_interval,
    paired_difference,
    share_interval,
    sign_flip_test,
    t_quantile,
    wilson_interval,
    win_rate,
)

SCORES = np.random.default_rng(1).beta(4, 2, size=(60, 5))


def width(interval: Interval) -> float:
    return interval.high - interval.low


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 47, 199])
def test_t_quantiles_are_scipys(freedom):
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)


@pytest.mark.parametrize("prompts", [2, 5, 60])
def test_mean_interval_is_scipys_t_interval(prompts):
    values = SCORES[:prompts].mean(1)
    low, high = stats.t.interval(0.95, prompts - 1, values.mean(), stats.sem(values))
    assert mean_interval(SCORES[:prompts]) == pytest.approx((values.mean(), low, high), abs=1e-12)


def test_copies_of_a_sample_do_not_narrow_the_interval():
    """The prompt is the unit: a hundred equal seeds say no more than one."""
    once = mean_interval(SCORES[:, :1])
    often = mean_interval(np.repeat(SCORES[:, :1], 100, axis=1))
    assert often == pytest.approx(once, abs=1e-12)


def test_crossed_interval_by_hand():
    """Two runs on three prompts. Means of runs 2 and 5, of prompts 2, 3 and 5.5; no error, so s²_prompts is whole."""
    table = np.array([[2.0, 3.0, 5.5]]) + np.array([[-1.5], [1.5]])
    by_run, by_prompt = 4.5 / 2, np.var([2, 3, 5.5], ddof=1) / 3
    quantile = (stats.t.ppf(0.975, 1) * by_run + stats.t.ppf(0.975, 2) * by_prompt) / (by_run + by_prompt)
    half = quantile * sqrt(by_run + by_prompt)
    assert crossed_interval(table) == pytest.approx((3.5, 3.5 - half, 3.5 + half))
    # the error of (1, -1, 0) and its reverse is that of the runs, and is taken from the prompts' part
    table += np.array([[1.0, -1, 0], [-1, 1, 0]])
    by_prompt -= 4 / 2 / 6
    quantile = (stats.t.ppf(0.975, 1) * by_run + stats.t.ppf(0.975, 2) * by_prompt) / (by_run + by_prompt)
    assert crossed_interval(table).high == pytest.approx(3.5 + quantile * sqrt(by_run + by_prompt))
    assert crossed_interval(np.ones((3, 4))) == (1, 1, 1)


def test_pairing_takes_out_what_the_prompts_share():
    better = SCORES + 0.01
    difference = paired_difference(better, SCORES)
    assert difference == pytest.approx((0.01, 0.01, 0.01), abs=1e-9)
    assert width(mean_interval(better)) > 0.01


def test_sign_flips_agree_with_scipy_where_all_are_tried():
    differences = np.array([0.3, -0.1, 0.4, 0.2, 0.05, 0.35, -0.2, 0.1])
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=np.inf
    )
    assert sign_flip_test(differences) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_sign_flips_agree_with_the_t_test_for_many_prompts():
    differences = np.random.default_rng(5).normal(0.25, 1, size=80)
    assert sign_flip_test(differences, resamples=50_000) == pytest.approx(
        stats.ttest_1samp(differences, 0).pvalue, abs=5e-3
    )


def test_a_sampled_p_value_is_never_zero():
    assert sign_flip_test(np.ones(50), resamples=999) == pytest.approx(1 / 1000)
    assert sign_flip_test(np.zeros(50), resamples=999) == 1


def test_holm_by_hand():
    # 4 x .01; max(.04, 3 x .02); max(.06, 2 x .03); max(.06, 1 x .04)
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = np.array(holm(p_values))
    raw = np.array(p_values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, len(raw) * raw) + 1e-12).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@pytest.mark.parametrize(("wins", "trials"), [(272, 500), (0, 7), (7, 7), (1, 3)])
def test_wilson_agrees_with_scipy(wins, trials):
    theirs = stats.binomtest(wins, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(wins, trials) == pytest.approx((wins / trials, theirs.low, theirs.high), abs=1e-7)


def test_win_rate_counts_ties_half():
    # a win, a loss, a tie, and a near tie within 0.1
    first, second = [1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.5, 0.45]
    assert win_rate(first, second) == pytest.approx(wilson_interval(2.5, 4))
    assert win_rate(first, second, tie=0.1).value == 0.5


def test_win_rate_over_seeds_takes_prompts_as_clusters():
    first, second = SCORES, np.roll(SCORES, 1, axis=0)
    wins = first > second
    several = win_rate(first, second)
    # the effective trials by hand
    variance = stats.sem(wins.mean(1)) ** 2
    trials = wins.mean() * (1 - wins.mean()) / variance * (1.959964 / stats.t.ppf(0.975, 59)) ** 2
    middle, spread = wins.mean() + 1.959964**2 / (2 * trials), wins.mean() * (1 - wins.mean()) / trials
    high = (middle + 1.959964 * sqrt(spread + 1.959964**2 / (4 * trials**2))) / (1 + 1.959964**2 / trials)
    assert several.value == wins.mean() and several.high == pytest.approx(high, abs=1e-6)
    assert win_rate(first[:, :1], second[:, :1]) == wilson_interval((first > second)[:, 0].sum(), 60)


def test_a_rate_that_nothing_speaks_against_has_an_interval_with_a_width():
    every = win_rate(np.ones((7, 5)), np.zeros((7, 5)))
    assert every == wilson_interval(7, 7) and every.low < 0.65
    assert win_rate(np.zeros((7, 5)), np.ones((7, 5))) == wilson_interval(0, 7)
    # each prompt alike, all 35 trials count
    assert win_rate(np.zeros((7, 5)), np.zeros((7, 5))) == wilson_interval(17.5, 35)
    assert share_interval([4], [5]) == wilson_interval(0.8, 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 10**6))
def test_interval_holds_its_estimate_and_moves_with_the_scores(prompts, seeds, seed):
    scores = np.random.default_rng(seed).normal(size=(prompts, seeds))
    interval = mean_interval(scores)
    assert interval.low <= interval.value <= interval.high
    moved = mean_interval(scores + 3)
    assert moved == pytest.approx([part + 3 for part in interval], abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(cases()), ids=lambda case: f"{case.kind}, {case.data}")
def test_intervals_hold_the_truth_as_often_as_they_promise(case):
    found = measure(case)
    # four binomial deviations
    tolerance = 4 * sqrt(0.95 * 0.05 / TRIALS)
    assert found.share >= 0.95 - case.short - tolerance
    assert not case.exact or found.share <= 0.95 + tolerance


def test_above_is_intervals_apart():
    assert Interval(0.7, 0.68, 0.72).above(Interval(0.6, 0.58, 0.67))
    assert not Interval(0.7, 0.68, 0.72).above(Interval(0.66, 0.64, 0.68))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([0.5]), "one prompt"),
        (lambda: mean_interval([]), "do not fit"),
        (lambda: mean_interval([0.5, float("nan")]), "1 of 2 scores are not finite"),
        (lambda: paired_difference([1, 2], [1, 2, 3]), "not pairs"),
        (lambda: crossed_interval([[0.1, 0.2]]), "1 run of 2 prompts"),
        (lambda: crossed_interval([[0.1], [0.2]]), "2 runs of 1 prompt;"),
        (lambda: share_interval([0], [0]), "0 clusters"),
        (lambda: t_quantile(0), "0 degrees"),
        (lambda: wilson_interval(3, 2), "3 wins of 2 trials"),
        (lambda: holm([0.5, 1.5]), "0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
