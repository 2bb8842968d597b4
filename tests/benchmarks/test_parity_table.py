"""docs/parity.md, which `make parity` writes: no metric without a row, and no row beyond what is allowed."""

from pathlib import Path

import pytest

from benchmarks.scorers.catalogue import SCORERS
from benchmarks.video_metrics.catalogue import METRICS

TABLE = Path(__file__).parents[2] / "docs" / "parity.md"
ROWS = {
    "pickscore_cos": "PickScore, cosine",
    "pickscore": "PickScore, scaled",
    "hps_v2.0": "HPS v2.0",
    "hps_v2.1": "HPS v2.1",
    "image_reward": "ImageReward",
    "aesthetic": "LAION aesthetic",
    "aesthetic_v1": "LAION aesthetic",
    "clip_score": "CLIPScore",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips_alex": "LPIPS alex",
    "lpips_vgg": "LPIPS vgg",
    "fid": "FID features",
    "kid": "KID",
    "fvd[videomae": "FVD features, VideoMAE",
    "kvd[videomae": "FVD features, VideoMAE",
    "fvd": "FVD features",
    "kvd": "FVD features",
    "subject_consistency": "subject consistency's pixels",
    "background_consistency": "background consistency's pixels",
}
BY_HAND = ("temporal_flickering",)
"""One line of arithmetic, compared with a second derivation in its own tests."""


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("column", [*SCORERS, *METRICS])
def test_every_metric_was_compared(column, rows):
    if column not in BY_HAND:
        wanted = next(row for start, row in ROWS.items() if column.startswith(start))
        assert any(name.startswith(wanted) for name, *_ in rows), f"{column}: no row {wanted!r} in {TABLE.name}"


def test_no_difference_is_beyond_what_is_allowed(rows):
    assert len(rows) > 20
    for name, against, difference, allowed in rows:
        # rounded up to one digit, so that it may stand one step above
        assert float(difference) <= 1.9 * float(allowed), (name, against)
