"""Distances between two sets of feature rows: Fréchet (FID, FVD) and polynomial-kernel MMD (KID, KVD), in float64."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from seppo_core.keys import keyed_permutation

Rows = Float[Tensor, "n d"]
Counts = Float[Tensor, " n"]
SUBSETS, SUBSET_SIZE = 100, 1000


def frechet_distance(x: Rows, y: Rows, x_counts: Counts | None = None, y_counts: Counts | None = None) -> float:
    """|μx - μy|² + tr(Σx + Σy - 2 (Σx Σy)^½), the squared Fréchet distance of two Gaussians (Heusel et al. 2017).

    Covariances have n - 1 below. With centred rows A, B over √(n - 1), tr (Σx Σy)^½ is the sum of the singular values
    of A Bᵀ: exact for fewer rows than dimensions too, where a matrix square root returns noise or complex numbers.
    `counts` say how often each row occurs (a bootstrap draw). Raises ValueError for fewer than two rows.
    """
    mean_x, a = _centred(x, x_counts)
    mean_y, b = _centred(y, y_counts)
    # the triangle of a QR decomposition has the same singular values against anything, in d rows instead of n
    a, b = (m if len(m) <= m.shape[1] else torch.linalg.qr(m, mode="r")[1] for m in (a, b))
    cross = torch.linalg.svdvals(a @ b.mT).sum()
    return ((mean_x - mean_y).square().sum() + a.square().sum() + b.square().sum() - 2 * cross).item()


def _centred(rows: Rows, counts: Counts | None) -> tuple[Tensor, Tensor]:
    rows = _checked(rows)
    counts = rows.new_ones(len(rows)) if counts is None else counts.to(rows)
    total = counts.sum()
    if total < 2:
        raise ValueError(f"{total:g} rows of features; a covariance needs at least 2")
    mean = counts @ rows / total
    return mean, (counts / (total - 1)).sqrt()[:, None] * (rows - mean)


def polynomial_kernel(x: Rows, y: Rows) -> Float[Tensor, "n m"]:
    """(x·y / d + 1)³, the kernel of KID (Bińkowski et al. 2018)."""
    x, y = _checked(x), _checked(y)
    return (x @ y.mT / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class KernelMMD:
    """Unbiased squared MMD from kernel matrices that are computed once, for any number of bootstrap draws.

    `x_group`, `y_group` number the unit each row comes from, a clip for its frames.
    """

    xx: Float[Tensor, "n n"]
    yy: Float[Tensor, "m m"]
    xy: Float[Tensor, "n m"]
    x_group: Tensor
    y_group: Tensor

    @classmethod
    def of(cls, x: Rows, y: Rows, x_group: Tensor | None = None, y_group: Tensor | None = None) -> "KernelMMD":
        groups = [torch.arange(len(rows)) if g is None else g for rows, g in ((x, x_group), (y, y_group))]
        return cls(polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y), *groups)

    def value(self, x_counts: Counts | None = None, y_counts: Counts | None = None) -> float:
        """Mean kernel over pairs of different rows within x, plus within y, minus twice that across.

        `counts` say how often each row was drawn, the same within a group. A row is never paired with a copy of itself,
        nor a clip's frames with a copy of that clip: such pairs would be nearer than any two of a fresh sample, and the
        bootstrap would report distances that are too small by that.
        """
        x_counts = self.xx.new_ones(len(self.xx)) if x_counts is None else x_counts.to(self.xx)
        y_counts = self.yy.new_ones(len(self.yy)) if y_counts is None else y_counts.to(self.yy)
        across = x_counts @ self.xy @ y_counts / (x_counts.sum() * y_counts.sum())
        within = _mean_of_pairs(self.xx, x_counts, self.x_group) + _mean_of_pairs(self.yy, y_counts, self.y_group)
        return (within - 2 * across).item()


def _mean_of_pairs(kernel: Tensor, counts: Counts, group: Tensor) -> Tensor:
    same = group[:, None] == group[None]
    pairs = torch.where(same.to(kernel.device), counts[:, None], counts[:, None] * counts[None])
    pairs.fill_diagonal_(0)
    if pairs.sum() == 0:
        raise ValueError("one row of features alone; the unbiased MMD needs at least 2 different ones")
    return (pairs * kernel).sum() / pairs.sum()


def kernel_distance(
    x: Rows, y: Rows, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE, seed: int = 0
) -> tuple[float, float]:
    """KID as it is published: unbiased MMD² over random subsets without replacement, their mean and deviation (n - 1).

    Subsets have min(subset_size, n, m) rows. Where both sets are that small there is one subset, and no deviation (0).
    Raises ValueError for fewer than two rows.
    """
    size = min(subset_size, len(x), len(y))
    if size < 2:
        raise ValueError(f"{size} rows of features; the unbiased MMD needs at least 2")
    if size == len(x) == len(y):
        return KernelMMD.of(x, y).value(), 0.0
    values = []
    for number in range(subsets):
        parts = [
            rows[keyed_permutation(len(rows), seed, "kid", side, number)[:size].to(rows.device)]
            for side, rows in (("x", x), ("y", y))
        ]
        values.append(KernelMMD.of(*parts).value())
    spread = torch.tensor(values, dtype=torch.float64)
    return spread.mean().item(), spread.std().item() if subsets > 1 else 0.0


def _checked(rows: Rows) -> Tensor:
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"features of shape {tuple(rows.shape)}; rows (n, d) are expected")
    if not rows.isfinite().all():
        raise ValueError("features that are not finite; extract them again in float32")
    return rows.double()
