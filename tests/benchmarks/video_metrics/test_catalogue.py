"""Every column by name: what it reads, what is missing, how it is loaded."""

import pytest

from benchmarks.evaluation.metrics.catalogue import METRICS, diagnose_metrics, load_metric, metric_entry
from benchmarks.evaluation.metrics.fid_features import InceptionFeatures
from benchmarks.evaluation.metrics.fvd_features import I3DFeatures
from benchmarks.evaluation.metrics.networks.i3d import I3D
from benchmarks.evaluation.metrics.networks.inception import FIDInception
from benchmarks.evaluation.metrics.set_metrics import set_column
from tests.benchmarks.video_metrics.clips import clip


def test_every_set_metric_is_named_by_its_extractor():
    extractors = [InceptionFeatures(FIDInception(16), (), "tf1"), I3DFeatures(I3D(16), (), "videogpt", 16)]
    for extractor, prefix in zip(extractors, ("fid", "fvd"), strict=True):
        column = set_column(extractor.column, "frechet")
        assert column.startswith(prefix) and METRICS[column].distance == "frechet" and METRICS[column].better == -1


def test_metrics_without_weights_load():
    for column in ("psnr", "ssim", "temporal_flickering"):
        assert load_metric(column).column == column
    assert load_metric("psnr").compare(clip(), clip()).tolist() == [100] * 4


def test_what_is_missing_is_said_with_size_and_licence(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPPO_WEIGHTS_DIR", str(tmp_path))
    needs = diagnose_metrics(["psnr", "lpips_alex", "fvd[videogpt,16f]"])
    assert [(need.scorer, need.part) for need in needs] == [
        ("lpips_alex", "weights"),
        ("lpips_alex", "backbone"),
        ("fvd[videogpt,16f]", "weights"),
    ]
    assert all(need.missing and need.size > 0 and need.licence and need.cure for need in needs)
    (tmp_path / "alex.pth").write_bytes(b"x")
    found = diagnose_metrics(["lpips_alex"], {"lpips_alex": {"weights": str(tmp_path)}})
    assert [need.missing for need in found] == [False, True]
    with pytest.raises(FileNotFoundError, match=r"i3d_pretrained_400.*Apache"):
        load_metric("fvd[videogpt,16f]")


def test_names_that_do_not_exist():
    with pytest.raises(ValueError, match="no clip metric 'fvd'"):
        metric_entry("fvd")
    with pytest.raises(ValueError, match="no part 'tokenizer'"):
        load_metric("lpips_vgg", {"tokenizer": "x"})
    with pytest.raises(ValueError, match="no files"):
        load_metric("ssim", {"weights": "x"})
