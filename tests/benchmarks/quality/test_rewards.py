"""Which numbers a model was fitted to, by metric, by family and by data."""

import pytest

from benchmarks.evaluation.protocols import PROTOCOLS
from benchmarks.evaluation.trained_on import family, fitted, parse_rewards, reward_warnings


def test_families():
    assert family("pickscore_cos") == family("pickscore") == family("pickapic") == "PickScore"
    assert family("hps_v2.0") == family("hps_v2.1") == family("hpsv3") == family("hpdv2") == "HPS"
    assert len({family(name) for name in ("aesthetic", "image_reward", "clip_score", "psnr", "hps_v2.1")}) == 5


def test_what_is_marked():
    metrics = PROTOCOLS["seppo-t2i-sd15"].metrics
    assert fitted(["pickapic"], metrics) == {"pickscore_cos": "pickapic"}
    assert fitted(["hps_v2.1", "hps_v2.0"], metrics) == {"hps_v2.0": "hps_v2.0"}
    assert fitted(["hps_v2.1"], metrics) == {"hps_v2.0": "hps_v2.1"}
    assert fitted(["clip_score"], metrics) == {}
    one, two, three = reward_warnings({"a": {"psnr": "psnr", "hps_v2.0": "hps_v2.1", "pickscore": "pickapic"}})
    assert "selected by it: its psnr" in one and "by hps_v2.1, of the same family" in two
    assert "on pickapic, which the metric was trained on as well" in three


@pytest.mark.parametrize(
    ("given", "message"),
    [("a", "should be MODEL=METRIC"), ("c=psnr", "no model 'c'"), ("a=psnr,thing", "'thing'")],
)
def test_mistakes(given, message):
    with pytest.raises(ValueError, match=message):
        parse_rewards([given], ["a", "b"], ["light", "psnr"])
    assert parse_rewards(["a=psnr,light", "b=hpdv2"], ["a", "b"], ["light", "psnr"]) == {
        "a": ["psnr", "light"],
        "b": ["hpdv2"],
    }
