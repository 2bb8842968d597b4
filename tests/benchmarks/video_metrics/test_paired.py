"""PSNR and SSIM beside closed forms and scipy; the other implementation, skimage, is in tests/parity."""

from math import log10

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.evaluation.metrics.psnr_ssim import PSNR, SSIM, psnr, ssim
from seppo_core.judging.video_pixels import even_frames, levels, unit
from tests.benchmarks.video_metrics.clips import clip


def test_psnr_of_a_known_error():
    reference = torch.full((3, 3, 8, 8), 0.5)
    frames = reference + torch.tensor([0.1, 0.01, 0.0])[:, None, None, None]
    torch.testing.assert_close(psnr(frames, reference), torch.tensor([20.0, 40.0, 100.0]).double(), atol=1e-4, rtol=0)


def test_psnr_is_averaged_over_frames_not_over_errors():
    reference = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    frames = torch.stack([torch.full((3, 4, 4), level, dtype=torch.uint8) for level in (1, 100)])
    each = [-20 * log10(level / 255) for level in (1, 100)]
    assert PSNR().compare(frames, reference).mean() == pytest.approx(sum(each) / 2, rel=1e-6)
    pooled = -10 * log10((1 + 100**2) / 2 / 255**2)
    assert abs(sum(each) / 2 - pooled) > 5


def scipy_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """One channel in [0, 1]; scipy's filter is cut off where the 11 × 11 window ends (3.5 σ) and then cropped."""

    def blur(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, truncate=3.5)[5:-5, 5:-5]

    mean_x, mean_y = blur(x), blur(y)
    variance = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((above / ((mean_x**2 + mean_y**2 + c1) * (variance + c2))).mean())


def test_ssim_beside_scipy():
    frames, reference = clip(3, 37, 50, seed=1), clip(3, 37, 50, seed=2)
    frames[0] = reference[0] // 2 + 40
    expected = [
        np.mean([scipy_ssim(x / 255, y / 255) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)])
        for a, b in zip(frames, reference, strict=True)
    ]
    torch.testing.assert_close(ssim(frames, reference), torch.tensor(expected), atol=1e-7, rtol=0)


def test_ssim_of_a_clip_with_itself_is_one():
    torch.testing.assert_close(SSIM().compare(clip(), clip()), torch.ones(4))


def test_ssim_of_flat_frames_is_the_brightness_term():
    x, y = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(x, y).item() == pytest.approx(expected, rel=1e-6)


def test_bytes_and_fractions_are_the_same_clip():
    frames, reference = clip(seed=1), clip(seed=2)
    for metric in (PSNR(), SSIM()):
        torch.testing.assert_close(
            metric.compare(frames, reference), metric.compare(unit(frames), unit(reference)), atol=1e-5, rtol=0
        )
    assert torch.equal(levels(unit(frames)), frames)


@pytest.mark.parametrize(
    ("frames", "reference", "said"),
    [
        (clip(4), clip(3), "one size"),
        (clip(4, 32, 32), clip(4, 32, 40), "one size"),
        (clip(4).float(), clip(4).float(), r"\[0, 1\]"),
        (clip(4).int(), clip(4).int(), "int32"),
        (torch.full((2, 3, 16, 16), float("nan")),) * 2 + (r"\[0, 1\]",),
        (clip(2)[:, :1], clip(2)[:, :1], r"\(f, 3, h, w\)"),
    ],
)
def test_clips_that_cannot_be_compared(frames, reference, said):
    with pytest.raises(ValueError, match=said):
        PSNR().compare(frames, reference)


def test_frames_smaller_than_the_window():
    with pytest.raises(ValueError, match="at least 11"):
        SSIM().compare(clip(2, 10, 40), clip(2, 10, 40))


def test_even_frames():
    assert even_frames(16, 16).tolist() == list(range(16))
    assert even_frames(31, 16).tolist() == list(range(0, 31, 2))
    assert even_frames(40, 4).tolist() == [0, 13, 26, 39]
    for length, count in ((5, 6), (5, 1)):
        with pytest.raises(ValueError, match="between 2 and 5"):
            even_frames(length, count)


def test_fingerprints_tell_metrics_apart():
    assert PSNR().fingerprint() == PSNR().fingerprint() != SSIM().fingerprint()
