"""What scores of previews say, held against scipy; which is the best; what a damaged index costs."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from seppo_core.run.checkpoint_names import superfluous
from seppo_core.run.find_checkpoint import find_checkpoint
from seppo_core.run.previews import (
    Drawing,
    PreviewRecord,
    Previews,
    add_preview,
    read_previews,
    rewind_previews,
    score_metrics,
    score_text,
)

DRAWING = Drawing(("a", "b", "c"), 0, 2, "default", 5, 1.0, 64, 64, 1)
START = PreviewRecord(0, "update-000000.png", False, DRAWING, "j", "f", ((0.1, 0.3), (0.5, 0.2), (0.9, 0.4)))


def after(update, *scores, **changes):
    rows = tuple(zip(scores[::2], scores[1::2], strict=True))
    return replace(START, update=update, file=f"update-{update:06d}.png", beside=True, scores=rows, **changes)


def test_mean_and_gain_are_t_intervals_over_prompts():
    later = after(2, 0.4, 0.4, 0.7, 0.1, 0.8, 0.9)
    for found, table in (
        (later.mean, np.array(later.scores)),
        (later.gain(START), np.array(later.scores) - np.array(START.scores)),
    ):
        means = table.mean(1)
        low, high = stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
        assert found == pytest.approx((means.mean(), low, high), abs=1e-12)
    metrics = score_metrics(later, START)
    assert list(metrics) == [f"preview_{what}{end}" for what in ("score", "gain") for end in ("", "_low", "_high")]
    assert metrics["preview_gain"] == later.gain(START).value
    assert list(score_metrics(START, START)) == ["preview_score", "preview_score_low", "preview_score_high"]


def test_scores_that_are_missing_cost_their_pair():
    later = after(2, 0.4, None, 0.7, 0.1, 0.8, 0.9, problem="1 sample of 6 without a score, e.g.: ill")
    assert later.mean.value == pytest.approx(np.mean([0.4, 0.4, 0.85]))
    assert later.gain(START).value == pytest.approx(np.mean([0.3, 0.05, 0.2]))
    assert "without a score" in score_text(later, START)
    none = after(2, None, None, None, None, 0.8, 0.9, problem="ill")
    assert none.mean is None and score_text(none, START) == "j: no score after update 2 (ill)"


def test_the_best_is_the_earliest_of_the_highest_that_can_be_compared(tmp_path):
    low, high = (0.1,) * 6, (0.6,) * 6
    records = [
        START,
        after(2, *low),
        after(4, *high),
        after(6, *high),
        after(8, 1, None, 1, 1, 1, 1),
        after(10, *(1.0,) * 6, fingerprint="another judge"),
        after(12, *low),
    ]
    previews = Previews(tmp_path, tuple(records))
    assert previews.best(kept_alone=False).update == 4
    assert previews.best() is None, "no checkpoint is there"
    for update in (6, 10, 12):
        (tmp_path / "checkpoints" / f"update-{update:06d}").mkdir(parents=True)
        assert previews.best().update == 6
    # the start may score higher than all: it is no checkpoint
    assert Previews(tmp_path, (after(0, *(9.0,) * 6), *records[1:])).best().update == 6
    for record in records:
        add_preview(tmp_path, record)
    assert find_checkpoint(tmp_path, "best").name == "update-000006"
    assert read_previews(tmp_path).all == tuple(records)
    there = [tmp_path / f"update-{n:06d}" for n in (2, 4, 6, 8)]
    assert superfluous(there, 1, None, there[1]) == [there[0], there[2]]


def test_a_damaged_line_is_left_out_and_later_ones_are_of_another_course(tmp_path):
    for record in (START, after(2, *(0.2,) * 6), after(4, *(0.4,) * 6)):
        add_preview(tmp_path, record)
    path = tmp_path / "previews" / "index.jsonl"
    path.write_text(path.read_text().replace("0.2, 0.2", "0.2, 9.2", 1))
    found = read_previews(tmp_path)
    assert [one.update for one in found.all] == [0, 4] and found.damaged == 1
    assert found.complaints() == [f"1 line of {path} is damaged and left out"]
    rewind_previews(tmp_path, 3)
    assert read_previews(tmp_path) == Previews(tmp_path, (START,))
    (tmp_path / "checkpoints" / "update-000002").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no best checkpoint: .*update-000002.* loop\.keep_best"):
        find_checkpoint(tmp_path, "best")
