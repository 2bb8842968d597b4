"""Two small sets of clips, and the distances between sets of features derived a second time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.evaluation.metrics.feature_cache import FeatureSet
from benchmarks.evaluation.metrics.set_metrics import set_column, set_distance
from seppo_core.judging.metric import FeatureExtractor
from tests.benchmarks.video_metrics.clips import clip

Compare = Callable[[str, str, Tensor, Tensor, float], None]
Clips = dict[str, Tensor]


def two_sets(frames: int, height: int = 90, width: int = 120, each: int = 2) -> tuple[Clips, Clips]:
    """Clips by name; those of the second set are darker."""
    made = {f"clip{seed}": clip(frames, height, width, seed) for seed in range(2 * each)}
    names = list(made)
    return {name: made[name] for name in names[:each]}, {name: made[name] // 2 for name in names[each:]}


def compare_columns(
    compare: Compare,
    extractor: FeatureExtractor,
    theirs: Callable[[Tensor], Tensor],
    sets: tuple[Clips, Clips],
    against: str,
    tolerance: float,
) -> None:
    """Both distances of an extractor, from frames to the number, beside those of other features (n, d) of a clip."""
    x, y = (
        FeatureSet.of({name: extractor.features(frames) for name, frames in clips.items()}, extractor.column, "f")
        for clips in sets
    )
    other_x, other_y = (torch.cat([theirs(frames).double() for frames in clips.values()]) for clips in sets)
    kernel = pytest.importorskip("cleanfid.fid").kernel_distance
    frechet = frechet_by_eigenvalues(other_x.numpy(), other_y.numpy())
    mmd = float(kernel(other_x.numpy(), other_y.numpy(), num_subsets=1))
    found = (("frechet", frechet, "numpy's eigenvalues"), ("kernel", mmd, "clean-fid's kernel"))
    for distance, expected, formula in found:
        ours = set_distance(x, y, distance)(torch.ones(len(x.ids)), torch.ones(len(y.ids)))
        ratio = torch.tensor([ours / expected], dtype=torch.float64)
        name = set_column(extractor.column, distance)
        compare(name, f"{against}, {formula} (relative)", ratio, torch.ones_like(ratio), tolerance)


def frechet_by_eigenvalues(x: np.ndarray, y: np.ndarray) -> float:
    """From covariances, as in the formula, in the few dimensions that the rows span (a rotation moves no distance)."""
    _, _, axes = np.linalg.svd(np.concatenate([x, y]), full_matrices=False)
    x, y = x @ axes.T, y @ axes.T
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(cov_x)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(min=0)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross)
