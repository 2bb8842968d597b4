"""Mixed precision through the real command, in a process of its own: accelerate fixes a process's precision once."""

import math

import pytest
import torch

from seppo_core.config.loader import resolved_yaml
from seppo_core.run.history import read_metrics
from tests.training.test_processes import final
from tests.training.together import start

GPU = pytest.mark.gpu
CASES = [
    ("full", "bf16", "cpu"),
    pytest.param("lora", "bf16", "cpu", marks=pytest.mark.slow),
    *(pytest.param(mode, precision, "cuda", marks=GPU) for mode in ("full", "lora") for precision in ("bf16", "fp16")),
]


@pytest.mark.parametrize(("mode", "precision", "device"), CASES)
def test_half_precision_trains_and_starts_at_log_2(workshop, tmp_path, mode, precision, device):
    """fp16, whose gradients a scaler multiplies, is CUDA's alone: accelerate refuses it elsewhere."""
    path = tmp_path / "config.yaml"
    text = resolved_yaml(workshop.config(tmp_path / "run", mode))
    assert "mixed_precision: 'no'" in text
    path.write_text(text.replace("mixed_precision: 'no'", f"mixed_precision: {precision}"))
    launch = start(1, "seppo_image", "train", path, log=tmp_path / "log", device=device)
    assert launch.finish() == 0, launch.output[-2000:]
    metrics = read_metrics(tmp_path / "run")
    assert len(metrics) == 6
    # equal weights under one autocast: a tie to the last bit
    assert metrics[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics[0]["share_s_minus"] == 1
    # a scaler begins too high, and skips what overflows until it has found its scale
    assert metrics[-1]["skipped"] == 0 if precision == "bf16" else metrics[-1]["skipped"] < 6
    assert any(value.abs().sum() > 0 for value in final(tmp_path / "run").values())
    assert all(torch.isfinite(value).all() for value in final(tmp_path / "run").values())
