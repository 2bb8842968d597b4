"""What the frames of clips span in seconds is noted and said; clips are never resampled."""

import json
from fractions import Fraction

import numpy as np
import pytest

from seppo_core.cache.clip_times import ClipTimes
from seppo_core.cache.prepare import prepare
from seppo_video.data import ClipFolder
from seppo_video.times import times_text, timing
from tests.cache.winners import PixelAdapter
from tests.video.clips import encode, moving

SLOWING = [40 * i for i in range(6)] + [200 + 200 * (i + 1) for i in range(6)]


def test_the_span_is_that_of_the_frames_that_are_used():
    pts = list(range(0, 1000, 40))
    assert timing(pts, [2, 6, 10], Fraction(1, 1000)) == (0.32, 25.0, True)
    assert timing(SLOWING, [0, 4], Fraction(1, 1000)) == (0.16, 25.0, True)
    assert timing(SLOWING, [0, 11], Fraction(1, 1000)).even is False
    # 30 a second, as Matroska rounds it
    assert timing([0, 33, 67, 100], [0, 3], Fraction(1, 1000)).even and timing(pts, [3], Fraction(1)) is None


def test_mixed_rates_and_uneven_times_are_said_with_what_motion_they_make():
    noted = [["a.mp4", 1.5, 8.0, True], ["b.mp4", 0.5, 24.0, True], ["c.mp4", 0.2, 60.0, False]]
    span, rate, uneven = times_text(ClipTimes.of(noted), 4, 8)
    assert "span 0.2 to 1.5 s (median 0.5), 2 to 15 frames a second" in span
    # 3 steps of an eighth of a second
    assert "lasts 0.375 s, 0.533 to 4 times as fast" in span
    assert "8 to 60 frames a second" in rate and "fps=" in rate
    assert uneven.startswith("1 of 3 clips") and "c.mp4" in uneven
    (alone,) = times_text(ClipTimes.of(noted[:1]), 4, 8)
    assert "span 1.5 s, 2 frames a second" in alone and ClipTimes.of([]) is None


def test_prepare_notes_the_times_of_all_clips(tmp_path):
    for name, times in (("a.mp4", [125 * i for i in range(12)]), ("b.mkv", SLOWING)):
        encode(tmp_path / name, moving(12), "libx264", "yuv420p", times=times)
    lines = [json.dumps({"file_name": name, "caption": name}) for name in ("a.mp4", "b.mkv")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    found = prepare(
        PixelAdapter(), ClipFolder(tmp_path, 8, 8, 4), tmp_path / "cache", model="tiny", shard_size=1, progress=False
    )
    times = ClipTimes.from_json(found.clip_times)
    assert times.clips == 2 and times.span == pytest.approx((1.375, 1.3875, 1.4)) and times.uneven_files == ("b.mkv",)
    assert np.isclose(times.rate[2], 8)
