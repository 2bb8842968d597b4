"""`speed --only layout`: channels-last weights and moments, and who is refused."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.experiments.speed import kernels
from benchmarks.experiments.speed.bench import Stage, Unavailable
from benchmarks.experiments.speed.models import find_subject
from benchmarks.experiments.toy.task.bases import image_base

CPU = torch.device("cpu")


def test_channels_last_changes_strides_alone():
    stage = Stage(find_subject(str(image_base()), height=32, batch=2), "full", CPU, "fp32", 2, Path(), named=True)
    prepared = kernels.layout(stage)
    bench = stage.bench()
    with bench.reference.active() as frozen:
        weights = [bench.policy.conv_in.weight, frozen.conv_in.weight]
    for variant, last in zip(prepared.variants, (False, True), strict=True):
        variant.before()
        assert [w.is_contiguous(memory_format=torch.channels_last) for w in weights] == [last] * 2
        variant.run()
        moment = bench.optimizer.state[weights[0]]["exp_avg"]
        assert moment.is_contiguous(memory_format=torch.channels_last) is last
        with torch.no_grad():
            weights[0].copy_(weights[1])
    prepared.close()
    assert all(w.is_contiguous() for w in weights)
    with pytest.raises(Unavailable, match="--only layout"):
        kernels.layout(replace(stage, named=False))
    transformer = Stage(find_subject("PixArt-Sigma-XL-2-512-MS"), "lora", CPU, "fp32", 2, Path(), named=True)
    transformer.bench = lambda: SimpleNamespace(config=transformer.subject.config("lora"))
    with pytest.raises(Unavailable, match="is a transformer"):
        kernels.layout(transformer)
