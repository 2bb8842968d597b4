"""Numbers that authors published, for whoever has the weights: `pytest -m weights`, SEPPO_WEIGHTS_DIR set.

The pictures of LPIPS lie beside the weights as `PerceptualSimilarity/imgs/ex_ref.png`, `ex_p0.png`, `ex_p1.png`.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.evaluation.metrics.catalogue import METRICS, load_metric
from benchmarks.evaluation.metrics.distances import frechet_distance
from benchmarks.evaluation.metrics.fvd_features import I3DFeatures
from seppo_core.judging.metric import ClipMetric, FeatureExtractor, PairedMetric
from tests.benchmarks.video_metrics.clips import clip

pytestmark = pytest.mark.weights
FOLDER = Path(os.environ.get("SEPPO_WEIGHTS_DIR", "."))


def in_place(column: str):
    """Files published outside the hub are looked for in the folder itself."""
    places = {
        source.part: str(FOLDER)
        for source in METRICS[column].sources
        if any(all((FOLDER / name).is_file() for name in names) for names in source.files)
    }
    try:
        return load_metric(column, places)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_fvd_of_black_and_white_clips():
    """google-research/frechet_video_distance, example.py: "The FVD for this setup should be around 131"."""
    try:
        features = I3DFeatures.load(FOLDER, geometry="cd-fvd", frames=15)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    black, white = (
        features.features(torch.full((15, 3, 64, 64), level, dtype=torch.uint8)).expand(16, -1) for level in (0, 255)
    )
    assert frechet_distance(black, white) == pytest.approx(131, abs=1.5)


def test_lpips_knows_the_nearer_picture():
    """The example of the authors' repository: people find p1 nearer to the reference, and so does the metric."""
    paths = [FOLDER / "PerceptualSimilarity" / "imgs" / f"ex_{name}.png" for name in ("ref", "p0", "p1")]
    if missing := [path for path in paths if not path.is_file()]:
        pytest.skip(f"{missing[0]} is not there")
    reference, p0, p1 = (
        torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] for path in paths
    )
    metric = in_place("lpips_alex")
    # as the repository's `test_network.py` prints them (quoted in its issue 120)
    expected = torch.tensor([0.722, 0.138])
    found = torch.cat([metric.compare(picture, reference) for picture in (p0, p1)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("column", list(METRICS))
def test_real_weights_load_and_give_plausible_numbers(column):
    """Where nothing is published per clip: a clip is like itself, and unlike noise."""
    metric = in_place(column)
    frames = clip(16, 64, 96, seed=1)
    noise = torch.randint(0, 256, frames.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if isinstance(metric, PairedMetric):
        itself, other = (metric.compare(x, frames).mean().item() for x in (frames, noise))
        assert metric.better * (itself - other) > 0
    elif isinstance(metric, ClipMetric):
        (steady,), (wild,) = (metric.measure(x, "").values() for x in (frames, noise))
        assert 0 <= wild < steady <= 1
    elif isinstance(metric, FeatureExtractor):
        rows = metric.features(frames)
        assert rows.isfinite().all() and (metric.features(noise) - rows).abs().mean() > 0.1 * rows.std()
