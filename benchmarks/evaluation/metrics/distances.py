"""Distances between two sets of feature rows: Fréchet (FID, FVD) and polynomial-kernel MMD (KID, KVD), in float64."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Rows = Float[Tensor, "n d"]
Counts = Float[Tensor, " groups"]


def frechet_distance(
    x: Rows, y: Rows, x_counts: Float[Tensor, " n"] | None = None, y_counts: Float[Tensor, " m"] | None = None
) -> float:
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


def _centred(rows: Rows, counts: Float[Tensor, " n"] | None) -> tuple[Tensor, Tensor]:
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
class Within:
    """Mean kernel over pairs of different rows of one set, for any counts of its groups at the cost of one product.

    A group is the unit that is drawn: a clip, whose frames are its rows.
    """

    kernel: Float[Tensor, "n n"]
    group: Int[Tensor, " n"]
    block: Float[Tensor, " groups"]
    """Sum of the kernel over all pairs of a group's rows."""
    diagonal: Float[Tensor, " groups"]
    """Sum over each of its rows with itself."""
    size: Float[Tensor, " groups"]

    @classmethod
    def of(cls, rows: Rows, group: Int[Tensor, " n"]) -> "Within":
        kernel, group = polynomial_kernel(rows, rows), group.to(rows.device)
        empty = kernel.new_zeros(int(group.max()) + 1)
        to_own_group = kernel.new_zeros(len(rows), len(empty)).index_add_(1, group, kernel)
        block = empty.index_add(0, group, to_own_group.gather(1, group[:, None])[:, 0])
        size = empty.index_add(0, group, torch.ones_like(kernel[0]))
        return cls(kernel, group, block, empty.index_add(0, group, kernel.diagonal()), size)

    def mean(self, counts: Counts) -> Tensor:
        """ValueError if no two different rows were drawn."""
        rows = counts[self.group]
        # of a group drawn c times: c² blocks, of which c are pairs within one copy, less each row with itself
        total = rows @ self.kernel @ rows - (counts**2 - counts) @ self.block - counts @ self.diagonal
        pairs = rows.sum() ** 2 - (counts**2 - counts) @ self.size**2 - counts @ self.size
        if pairs < 1:
            raise ValueError("one row of features alone; the unbiased MMD needs at least 2 different ones")
        return total / pairs


@dataclass(frozen=True)
class KernelMMD:
    """Unbiased squared MMD (Gretton et al. 2012) from kernels that are computed once, for any number of draws."""

    x: Within
    y: Within
    across: Float[Tensor, "n m"]

    @classmethod
    def of(cls, x: Rows, y: Rows, x_group: Tensor | None = None, y_group: Tensor | None = None) -> "KernelMMD":
        """Groups number the clip of each row; without them each row is its own."""
        x_group = torch.arange(len(x)) if x_group is None else x_group
        y_group = torch.arange(len(y)) if y_group is None else y_group
        return cls(Within.of(x, x_group), Within.of(y, y_group), polynomial_kernel(x, y))

    def value(self, x_counts: Counts | None = None, y_counts: Counts | None = None) -> float:
        """Mean kernel over pairs of different rows within x, plus within y, minus twice that across.

        `counts` say how often each group was drawn. A row is never paired with a copy of itself, nor a clip's frames
        with a copy of that clip: such pairs are nearer than any two of a fresh sample, and the bootstrap's distances
        would be off by that.
        """
        x_counts = torch.ones_like(self.x.size) if x_counts is None else x_counts.to(self.across)
        y_counts = torch.ones_like(self.y.size) if y_counts is None else y_counts.to(self.across)
        x_rows, y_rows = x_counts[self.x.group], y_counts[self.y.group]
        across = x_rows @ self.across @ y_rows / (x_rows.sum() * y_rows.sum())
        return (self.x.mean(x_counts) + self.y.mean(y_counts) - 2 * across).item()


def _checked(rows: Rows) -> Tensor:
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"features of shape {tuple(rows.shape)}; rows (n, d) are expected")
    if not rows.isfinite().all():
        raise ValueError("features that are not finite; extract them again in float32")
    return rows.double()
