"""The statistics against scipy and closed forms."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from seppo_core.report.statistics import (
    Interval,
    crossed_interval,
    holm,
    mean_interval,
    nested_interval,
    paired_difference,
    sign_flip_test,
    wilson_interval,
    win_rate,
)

SCORES = np.random.default_rng(1).beta(4, 2, size=(60, 5))
WIDTH_95 = 2 * 1.959964


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_mean_interval_agrees_with_scipys_percentile_bootstrap():
    ours = mean_interval(SCORES[:, 0], resamples=20_000)
    theirs = stats.bootstrap((SCORES[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=3)
    assert ours.value == pytest.approx(SCORES[:, 0].mean(), abs=1e-12)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=2e-3)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=2e-3)


def test_copies_of_a_sample_do_not_narrow_the_interval():
    """The prompt is the unit: a hundred equal seeds say no more than one."""
    once = mean_interval(SCORES[:, :1])
    often = mean_interval(np.repeat(SCORES[:, :1], 100, axis=1))
    assert often == pytest.approx(once, abs=1e-12)


def test_width_is_that_of_the_normal_approximation():
    expected = WIDTH_95 * SCORES.mean(1).std() / sqrt(len(SCORES))
    assert width(mean_interval(SCORES)) == pytest.approx(expected, rel=0.05)


def test_nested_interval_adds_the_variance_within_prompts():
    prompts, seeds = SCORES.shape
    between = SCORES.mean(1).var() / prompts
    within = SCORES.var(1).mean() / (prompts * seeds)
    interval = nested_interval(SCORES, resamples=20_000)
    assert width(interval) == pytest.approx(WIDTH_95 * sqrt(between + within), rel=0.05)
    assert interval.value == pytest.approx(SCORES.mean())


def test_crossed_interval_has_the_variance_of_additive_effects():
    """For y = run + prompt the resampled mean's variance is var(run)/runs + var(prompt)/prompts, exactly."""
    generator = np.random.default_rng(2)
    runs, prompts = generator.normal(size=12), generator.normal(size=80)
    interval = crossed_interval(runs[:, None] + prompts[None], resamples=20_000)
    expected = WIDTH_95 * sqrt(runs.var() / len(runs) + prompts.var() / len(prompts))
    assert width(interval) == pytest.approx(expected, rel=0.05)
    assert interval.value == pytest.approx(runs.mean() + prompts.mean())


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


def test_win_rate_over_seeds_resamples_prompts():
    first, second = SCORES, np.roll(SCORES, 1, axis=0)
    several = win_rate(first, second)
    assert several == mean_interval((first > second).astype(float))
    assert win_rate(first[:, :1], second[:, :1]) == wilson_interval((first > second)[:, 0].sum(), 60)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 10**6))
def test_interval_holds_its_estimate_and_moves_with_the_scores(prompts, seeds, seed):
    scores = np.random.default_rng(seed).normal(size=(prompts, seeds))
    interval = mean_interval(scores, resamples=200)
    assert interval.low <= interval.high
    assert scores.mean(1).min() - 1e-12 <= interval.low and interval.high <= scores.mean(1).max() + 1e-12
    moved = mean_interval(scores + 3, resamples=200)
    assert moved == pytest.approx([part + 3 for part in interval], abs=1e-9)


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
        (lambda: crossed_interval([[0.1, 0.2]]), "1 run"),
        (lambda: wilson_interval(3, 2), "3 wins of 2 trials"),
        (lambda: holm([0.5, 1.5]), "0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
