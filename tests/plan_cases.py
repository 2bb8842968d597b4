"""What the plans of images and videos are held against alike."""

import json
import math
import time
from pathlib import Path

import torch

from seppo_core.adapter import Adapter
from seppo_core.config_file import load_config
from seppo_core.plan_build import build_pipeline
from seppo_core.plan_numbers import pipeline_numbers

ROOT = Path(__file__).parents[1]
SECONDS = 60
"""Of one processor, that a plan may take."""


def parameters(base: str, shipped: Path, kind: type) -> dict[str, float]:
    """Millions of weights of the components that come with the program's numbers for `base`."""
    pipeline = build_pipeline(kind, pipeline_numbers(base, shipped), torch.float16)
    return {
        name: sum(parameter.numel() for parameter in module.parameters()) / 1e6
        for name, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }


def check_condition(adapter: Adapter, condition) -> None:
    """The shapes and kinds of number that `plan` takes are those that the text encoders give."""
    planned, real = condition(adapter), adapter.encode_prompts(["a red house"])
    assert {name: tuple(value.shape) for name, value in planned.items()} == {
        name: tuple(value.shape) for name, value in real.items()
    }
    for name, value in real.items():
        assert value.is_floating_point() == planned[name].is_floating_point(), name
        assert value.is_floating_point() or value.itemsize == planned[name].itemsize, name


def check_plan(main, path: str, schema: type, capsys) -> dict:
    """Runs the command on a config of ours and returns its numbers."""
    config = load_config(ROOT / path, schema)
    capsys.readouterr()
    begun = time.process_time()
    assert main(["plan", str(ROOT / path), "--gpu", "h100", "--gpus", "8", "--items", "1000", "--json"]) == 0
    seconds = time.process_time() - begun
    plan = json.loads(capsys.readouterr().out)
    assert seconds < SECONDS, f"{seconds:.0f} s of one processor"
    assert plan["counts"]["updates"] == config.loop.iterations * config.loop.updates
    assert (plan["parameters"]["trained"] == plan["parameters"]["denoiser"]) == (config.tune.mode == "full")
    assert (plan["counts"]["generated"] > 0) == (config.method.recipe.second == "generated")
    assert all(math.isfinite(hours) and hours >= 0 for hours in plan["hours"].values())
    # a forward pass multiplies every weight at least once, but for those of UNets' coarser layers and of norms
    assert plan["flops"]["forward"] > 0.2 * plan["parameters"]["denoiser"]
    without, with_it = plan["activations"]["without checkpointing"], plan["activations"]["with checkpointing"]
    assert 0 < with_it < without
    return plan
