"""Mixed precision through the real command, in a process of its own: accelerate fixes a process's precision once."""

import math

import pytest

from seppo_core.config.loader import resolved_yaml
from seppo_core.run.history import read_metrics
from tests.training.together import start


@pytest.mark.parametrize("mode", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_bf16_trains_and_starts_at_log_2(workshop, tmp_path, mode):
    path = tmp_path / "config.yaml"
    text = resolved_yaml(workshop.config(tmp_path / "run", mode))
    assert "mixed_precision: 'no'" in text or "mixed_precision: no" in text
    path.write_text(text.replace("mixed_precision: 'no'", "mixed_precision: bf16"))
    launch = start(1, "seppo_image", "train", path, log=tmp_path / "log")
    assert launch.finish() == 0, launch.output[-2000:]
    metrics = read_metrics(tmp_path / "run")
    assert len(metrics) == 6
    # equal weights under one autocast: a tie to the last bit
    assert metrics[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics[0]["share_s_minus"] == 1
