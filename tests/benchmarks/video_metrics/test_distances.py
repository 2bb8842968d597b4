"""Fréchet distance and kernel MMD beside scipy, closed forms and double loops."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from benchmarks.evaluation.metrics.distances import KernelMMD, frechet_distance


def rows(count: int, width: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mix + shift


def by_matrix_root(x: torch.Tensor, y: torch.Tensor) -> float:
    """The textbook form, with scipy's root of the product of covariances."""
    x, y = x.numpy(), y.numpy()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real))


@pytest.mark.parametrize(("n", "m"), [(200, 300), (60, 60), (200, 25)])
def test_beside_scipy(n, m):
    x, y = rows(n, 20, 1), rows(m, 20, 2, shift=0.3)
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(12, 15), (12, 200)])
def test_fewer_rows_than_dimensions(n, m):
    """There the root of a singular product is noise; nudging both covariances makes it one, at a known small error."""
    x, y = rows(n, 40, 1), rows(m, 40, 2)
    a, b = (np.cov(z.numpy(), rowvar=False) + 1e-10 * np.eye(40) for z in (x, y))
    values = np.linalg.eigvals(a @ b).real.clip(min=0)
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(a + b) - 2 * np.sqrt(values).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4)


def test_diagonal_gaussians_in_closed_form():
    """Two points per axis make a diagonal covariance: (√a - √b)² per axis and the squared shift."""
    a, b, shift = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([1.0, 1.0, 25.0]), torch.tensor([0.0, 3.0, 4.0])

    def axes(scale: torch.Tensor) -> torch.Tensor:
        points = torch.cat([torch.diag(scale), -torch.diag(scale)]).double()
        return points * (5 / 2) ** 0.5  # six rows: variance 2 s² · 5/2 / 5

    expected = (a - b).square().sum() + shift.square().sum()
    assert frechet_distance(axes(a), axes(b) + shift) == pytest.approx(expected.item(), rel=1e-9)


def test_of_a_set_with_itself_and_with_a_shifted_one():
    x = rows(50, 30, 1)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(30 * 4, rel=1e-9)
    assert frechet_distance(x, rows(40, 30, 2)) == pytest.approx(frechet_distance(rows(40, 30, 2), x), rel=1e-12)


def test_half_precision_features_are_raised():
    x, y = rows(30, 8, 1).half(), rows(30, 8, 2).half()
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(x.double(), y.double()), rel=1e-12)


@pytest.mark.parametrize("width", [5, 40])
def test_counts_are_repeated_rows(width):
    x, y = rows(20, width, 1), rows(15, width, 2)
    counts = torch.tensor([3, 0, 1, 2] * 5)
    repeated = x.repeat_interleave(counts, 0)
    assert frechet_distance(x, y, counts.double()) == pytest.approx(frechet_distance(repeated, y), rel=1e-10)


def kernel(x, y) -> float:
    return float((x @ y) / len(x) + 1) ** 3


def mmd_by_loops(x, y) -> float:
    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_mmd_beside_loops():
    x, y = rows(9, 6, 1), rows(7, 6, 2, shift=0.5)
    assert KernelMMD.of(x, y).value() == pytest.approx(mmd_by_loops(x, y), rel=1e-10)


def test_mmd_is_unbiased():
    """Over many pairs of sets of one distribution the mean is zero; the biased estimate would be above."""
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([KernelMMD.of(*torch.randn(2, 10, 4, generator=generator)).value() for _ in range(2000)])
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
    assert (values < 0).any()


def test_a_draw_pairs_no_clip_with_its_copy():
    """Two frames a clip, clips drawn 2, 0, 1, 3 times: written out as rows, leaving out what is a copy of the same."""
    x, y = rows(8, 5, 1), rows(6, 5, 2)
    clip, drawn = torch.arange(4).repeat_interleave(2), torch.tensor([2.0, 0.0, 1.0, 3.0])
    copies = [(c, copy, 2 * c + f) for c in range(4) for copy in range(int(drawn[c])) for f in range(2)]
    pairs = [
        kernel(x[i], x[j]) for c, copy, i in copies for d, other, j in copies if i != j and (c != d or copy == other)
    ]
    within_y = sum(kernel(y[i], y[j]) for i in range(6) for j in range(6) if i != j) / 30
    across = sum(kernel(x[i], b) for _, _, i in copies for b in y) / (len(copies) * 6)
    expected = sum(pairs) / len(pairs) + within_y - 2 * across
    assert KernelMMD.of(x, y, clip).value(drawn) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.zeros(1, 4), "at least 2"),
        (torch.zeros(0, 4), r"\(n, d\)"),
        (torch.zeros(4), r"\(n, d\)"),
        (torch.full((4, 4), float("nan")), "not finite"),
    ],
)
def test_rows_that_are_no_set(x, said):
    with pytest.raises(ValueError, match=said):
        frechet_distance(x, torch.randn(5, 4))
    if x.ndim == 2 and len(x) != 0:
        with pytest.raises(ValueError, match=said):
            KernelMMD.of(x, torch.randn(5, 4)).value()
