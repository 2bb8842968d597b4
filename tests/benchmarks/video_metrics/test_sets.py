"""Feature files and what is computed from them, without any network."""

import pytest
import torch
from torch import nn

from benchmarks.evaluation.metrics.distances import KernelMMD, frechet_distance
from benchmarks.evaluation.metrics.feature_cache import FeatureCache, FeatureSet, frames_key
from benchmarks.evaluation.metrics.set_metrics import Distance, compare_sets, set_column, set_distance
from seppo_core.judging.metric import FeatureExtractor
from tests.benchmarks.video_metrics.clips import clip


class Colours(FeatureExtractor):
    """Mean and deviation of each channel of each frame; counts its calls."""

    name = "inception"

    def __init__(self, gain: float = 1.0):
        super().__init__(nn.Module(), (), {"gain": gain})
        self.calls = 0

    @property
    def column(self) -> str:
        return "inception[clean]"

    def extract(self, frames):
        self.calls += 1
        values = frames.float() / 255 * float(self.options["gain"])
        return torch.cat([values.mean((2, 3)), values.std((2, 3))], 1)


def feature_set(
    clips: int, seed: int, shift: float = 0.0, width: int = 3, frames: int = 1, name: str = "c"
) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(clips, frames, width, generator=generator) + shift
    return FeatureSet.of({f"{name}{i}": r for i, r in enumerate(rows)}, "i3d[styleganv,16f]", "f" * 64)


def whole_distance(x: FeatureSet, y: FeatureSet, distance: Distance) -> float:
    """With every clip once."""
    return set_distance(x, y, distance)(torch.ones(len(x.ids)), torch.ones(len(y.ids)))


def test_each_clip_is_looked_at_once(tmp_path):
    extractor = Colours()
    cache = FeatureCache(tmp_path, extractor)
    clips = {f"p{seed}": clip(3, seed=seed) for seed in range(4)}
    keys = {name: frames_key(frames) for name, frames in clips.items()}
    assert [cache.get(key) for key in keys.values()] == [None] * 4
    for name, frames in clips.items():
        torch.testing.assert_close(cache.features(keys[name], frames), extractor.extract(frames))
    calls = extractor.calls
    again = FeatureCache(tmp_path, extractor)
    collected = FeatureSet.of({name: again.get(key) for name, key in keys.items()}, "inception[clean]", "f" * 64)
    assert extractor.calls == calls and collected.ids == tuple(keys)
    assert collected.clip.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    torch.testing.assert_close(collected.rows[3:6], extractor.extract(clips["p1"]))
    assert "[" not in cache.folder.name and cache.folder.name.endswith(f"@{extractor.fingerprint()[:8]}")


def test_another_extractor_has_another_folder(tmp_path):
    first, second = FeatureCache(tmp_path, Colours()), FeatureCache(tmp_path, Colours(2.0))
    first.features("a", clip())
    assert second.get("a") is None and first.folder != second.folder


def test_a_damaged_or_foreign_file_is_computed_again(tmp_path):
    cache = FeatureCache(tmp_path, Colours())
    rows = cache.features("a", clip())
    cache.path("a").write_bytes(cache.path("a").read_bytes()[:40])
    assert cache.get("a") is None and torch.equal(cache.features("a", clip()), rows)
    # of equal size, with another value
    whole = cache.path("a").read_bytes()
    cache.path("a").write_bytes(whole[:-1] + bytes([whole[-1] ^ 64]))
    assert cache.get("a") is None and torch.equal(cache.features("a", clip()), rows)
    other = FeatureCache(tmp_path, Colours(2.0))
    other.features("b", clip())
    cache.path("b").write_bytes(other.path("b").read_bytes())
    assert cache.get("b") is None


def test_keys_become_file_names(tmp_path):
    for key in ("../up", "", "a/b"):
        with pytest.raises(ValueError, match="key"):
            FeatureCache(tmp_path, Colours()).path(key)
    assert frames_key(clip(seed=1)) != frames_key(clip(seed=2))
    assert frames_key(torch.zeros(1, 3, 2, 4)) != frames_key(torch.zeros(1, 3, 4, 2))


def test_sets_that_are_none():
    with pytest.raises(ValueError, match="without clips"):
        FeatureSet.of({}, "i3d", "f")
    with pytest.raises(ValueError, match="widths"):
        FeatureSet.of({"a": torch.zeros(1, 2), "b": torch.zeros(1, 3)}, "i3d", "f")


def test_columns():
    assert set_column("inception[clean]", "frechet") == "fid[clean]"
    assert set_column("inception[tf1]", "kernel") == "kid[tf1]"
    assert set_column("i3d[videogpt,16f]", "frechet") == "fvd[videogpt,16f]"
    assert set_column("i3d[videogpt,16f]", "kernel") == "kvd[videogpt,16f]"


def test_distances_of_sets():
    x, y = feature_set(40, 1), feature_set(40, 2, 0.5)
    assert whole_distance(x, y, "frechet") == frechet_distance(x.rows, y.rows)
    assert whole_distance(x, y, "kernel") == KernelMMD.of(x.rows, y.rows).value()
    other = FeatureSet.of({"a": torch.zeros(2, 3)}, "i3d[cd-fvd,16f]", "0" * 64)
    with pytest.raises(ValueError, match="different extractors"):
        compare_sets({"x": x}, other, "frechet")


@pytest.mark.parametrize("distance", ["frechet", "kernel"])
def test_models_share_their_draws(distance):
    reference = feature_set(60, 0)
    same, worse = feature_set(60, 1), feature_set(60, 1, shift=1.0)
    found = compare_sets({"same": same, "copy": same, "worse": worse}, reference, distance, resamples=60)
    assert found.differences["copy"] == (0, 0, 0)
    assert found.differences["worse"].low > 0
    estimate = found.estimates["same"]
    assert estimate.interval.low < estimate.interval.value < estimate.interval.high
    assert (estimate.clips, estimate.reference_clips) == (60, 60)
    assert found == compare_sets({"same": same, "copy": same, "worse": worse}, reference, distance, resamples=60)


def test_the_bias_of_few_clips_is_said():
    """Two sets of one distribution lie zero apart; 40 clips in 30 dimensions say otherwise, a draw of them more so."""
    x, y = feature_set(40, 1, width=30), feature_set(40, 2, width=30, name="r")
    frechet = compare_sets({"x": x}, y, "frechet", resamples=60).estimates["x"]
    assert frechet.interval.value > 5 and frechet.bias > 0.2 * frechet.interval.value
    kernel = compare_sets({"x": x}, y, "kernel", resamples=400).estimates["x"]
    spread = kernel.interval.high - kernel.interval.low
    assert abs(kernel.bias) < 0.1 * spread and kernel.interval.low < 0 < kernel.interval.high


def test_models_need_the_same_clips():
    with pytest.raises(ValueError, match="different clips"):
        compare_sets({"a": feature_set(5, 1), "b": feature_set(5, 1, name="d")}, feature_set(5, 2), "frechet")
    with pytest.raises(ValueError, match="no models"):
        compare_sets({}, feature_set(5, 2), "frechet")


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "tolerance"), [("frechet", 0.3), ("kernel", 0.2)])
def test_intervals_are_as_wide_as_fresh_samples_scatter(distance, tolerance):
    fresh = torch.tensor(
        [
            whole_distance(feature_set(80, 2 * i, 0.7), feature_set(80, 2 * i + 1, name="r"), distance)
            for i in range(400)
        ]
    )
    widths = torch.tensor(
        [
            (lambda interval: interval.high - interval.low)(
                compare_sets({"x": feature_set(80, 2 * i, 0.7)}, feature_set(80, 2 * i + 1, name="r"), distance, 200)
                .estimates["x"]
                .interval
            )
            for i in range(20)
        ]
    )
    low, high = fresh.quantile(torch.tensor([0.025, 0.975]))
    assert widths.mean().item() == pytest.approx((high - low).item(), rel=tolerance)
