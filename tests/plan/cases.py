"""What the plans of images and videos are held against alike."""

import json
import math
import time
from pathlib import Path

import pytest
import torch

from seppo_core.cli.recipes import planned
from seppo_core.config.loader import load_config
from seppo_core.models.adapter import Adapter
from seppo_core.plan.architecture import pipeline_architecture
from seppo_core.plan.build import build_pipeline, caption_condition

ROOT = Path(__file__).parents[2]
SECONDS = 90
"""Of one processor, that a plan may take."""


CLOSE = 0.25
"""How far a header may be off its plan."""


def parameters(base: str, shipped: Path, kind: type) -> dict[str, float]:
    """Millions of weights of the components that come with the program's numbers for `base`."""
    pipeline = build_pipeline(kind, pipeline_architecture(base, shipped), torch.float16)
    return {
        name: sum(parameter.numel() for parameter in module.parameters()) / 1e6
        for name, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }


def check_condition(adapter: Adapter) -> None:
    """The shapes and kinds of number that `plan` takes are those that the text encoders give."""
    planned, real = caption_condition(adapter), adapter.encode_prompts(["a red house"])
    assert {name: tuple(value.shape) for name, value in planned.items()} == {
        name: tuple(value.shape) for name, value in real.items()
    }
    for name, value in real.items():
        assert value.is_floating_point() == planned[name].is_floating_point(), name
        assert value.is_floating_point() or value.itemsize == planned[name].itemsize, name


def check_plan(main, path: str, schema: type, capsys) -> dict:
    """Runs the command on a config of ours, for the GPUs that its header names, and returns its numbers."""
    config, header = load_config(ROOT / path, schema), planned(ROOT / path)
    capsys.readouterr()
    begun = time.process_time()
    on = ["--gpu", header.gpu, "--gpus", str(header.gpus)]
    assert main(["plan", str(ROOT / path), *on, "--items", "20000", "--json"]) == 0
    seconds = time.process_time() - begun
    plan = json.loads(capsys.readouterr().out)
    assert seconds < SECONDS, f"{seconds:.0f} s of one processor"
    assert plan["counts"]["updates"] == config.loop.iterations * config.loop.updates_per_iteration
    assert (plan["parameters"]["trained"] == plan["parameters"]["denoiser"]) == (config.tune.mode == "full")
    assert (plan["counts"]["generated"] > 0) == (config.method.spec.counterpart == "generated")
    assert plan["fits"] and plan["encode_batch_size"] == config.data.encode_batch_size
    held = {phase: sum(parts.values()) / 2**30 for phase, parts in plan["phases"].items()}
    assert header.prepare == pytest.approx(held.pop("prepare"), rel=CLOSE)
    assert header.train == pytest.approx(max(held.values()), rel=CLOSE)
    assert header.hours == pytest.approx(plan["hours_in_all"], rel=CLOSE)
    assert all(math.isfinite(hours) and hours >= 0 for hours in plan["hours"].values())
    # a forward pass multiplies every weight at least once, but for those of UNets' coarser layers and of norms
    assert plan["flops"]["forward"] > 0.2 * plan["parameters"]["denoiser"]
    without, with_it = plan["activations"]["without checkpointing"], plan["activations"]["with checkpointing"]
    assert 0 < with_it < without
    return plan
