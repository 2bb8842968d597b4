"""Stored counts: they are the real ones, are used only where nothing that matters differs, and spare torch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from seppo_core.config.loader import load_config
from seppo_core.config.options import PlanRequest
from seppo_core.plan import counts
from seppo_core.plan.counts import costs_of, from_json, key_of, stored, to_json
from seppo_core.plan.estimate import make_plan
from seppo_core.plan.measure import measure
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig
from tools.plan_counts import schema_of

ROOT = Path(__file__).parents[2]
SD15 = "configs/image/sd15_lora_seppo.yaml"


def config_of(recipe: str) -> ImageConfig | VideoConfig:
    return load_config(str(ROOT / recipe), schema_of(Path(recipe)))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [SD15, "configs/image/sdxl_lora_seppo.yaml"])
def test_a_stored_count_is_the_real_one(recipe):
    config = config_of(recipe)
    found, real = from_json(stored()[key_of(config)]["costs"]), measure(config)
    for used, cost in real.steps.items():
        # some kilobytes of a metric are no reason to count all recipes anew
        assert found.steps[used].peak == pytest.approx(cost.peak, rel=1e-4)
    steps = {used: replace(cost, peak=found.steps[used].peak) for used, cost in real.steps.items()}
    assert found == replace(real, steps=steps)


def test_every_stored_count_is_that_of_its_recipe_as_it_is():
    """`python -m tools.plan_counts` counts recipes anew that were changed."""
    assert {key: one["recipe"] for key, one in stored().items() if key_of(config_of(one["recipe"])) != key} == {}


def test_what_is_no_recipe_is_counted(monkeypatch):
    config = config_of(SD15)
    config = replace(config, method=replace(config.method, reference="random"))
    key = key_of(config)
    same = [
        replace(config, run="elsewhere", seed=3),
        replace(config, method=replace(config.method, beta=1.0)),
        replace(config, method=replace(config.method, reference="latest")),
        # a LoRA to start from is no base
        replace(config, method=replace(config.method, reference="initial"), model=replace(config.model, lora="mine")),
        replace(config, loop=replace(config.loop, iterations=99, batch_size=64)),
        replace(config, data=replace(config.data, source="other", cache="other")),
        replace(config, loop=replace(config.loop, compile="inductor")),
    ]
    assert config.loop.gradient_checkpointing
    other = [
        replace(config, tune=replace(config.tune, rank=5)),
        replace(config, tune=replace(config.tune, mode="full")),
        replace(config, data=replace(config.data, height=config.data.height + 64)),
        replace(config, loop=replace(config.loop, micro_batch_size=2 * config.loop.micro_batch_size)),
        replace(config, loop=replace(config.loop, gradient_checkpointing=not config.loop.gradient_checkpointing)),
        replace(config, loop=replace(config.loop, checkpointing_share=0.5)),
        replace(config, method=replace(config.method, anchor_draws=2)),
        replace(config, method=replace(config.method, reference="initial")),
        replace(config, reference_samples=replace(config.reference_samples, guidance_scale=1.0)),
        replace(config, preview=replace(config.preview, per_prompt=config.preview.per_prompt + 1)),
        replace(config, preview=replace(config.preview, batch_size=1)),
    ]
    assert all(key_of(one) == key for one in same)
    assert len({key, *map(key_of, other)}) == 1 + len(other)
    # another base under the same settings
    numbers = counts.base_architecture(config)
    wider = replace(numbers, parts=numbers.parts | {"unet": numbers.parts["unet"] | {"cross_attention_dim": 1024}})
    monkeypatch.setattr(counts, "base_architecture", lambda config: wider)
    assert key_of(config) != key


def test_a_plan_says_what_compiling_and_one_kernel_for_all_weights_change():
    config = config_of("configs/image/flux_dev_lora_seppo.yaml")
    request = PlanRequest(gpu="h100", items=20000)
    faster = replace(config, loop=replace(config.loop, compile="inductor"))
    faster = replace(faster, optimizer=replace(config.optimizer, name="adamw", fused=True))
    plan, before = make_plan(faster, request), make_plan(config, request)
    assert any(note.startswith("loop.compile=inductor changes neither") for note in plan.notes)
    assert not any("loop.compile" in note for note in before.notes)
    assert "steps of all weights" not in plan.phases["optimizer step"]
    assert before.phases["optimizer step"]["steps of all weights"] > 0
    assert plan.hours == before.hours


def test_a_count_comes_back_from_json_as_it_was():
    costs = costs_of(config_of(SD15))
    assert from_json(json.loads(json.dumps(to_json(costs)))) == costs


def test_the_plan_of_a_recipe_imports_no_torch(tmp_path):
    # the second has no number of items, and the recipe's data are not there to be counted; the third counts a folder
    Image.new("RGB", (600, 520)).save(tmp_path / "1.png")
    (tmp_path / "1.txt").write_text("a black picture")
    code = (
        "import sys; from seppo_image.__main__ import main; "
        f"assert main(['plan', '{SD15}', '--items', '20000']) == main(['plan', '{SD15}']) == 0; "
        f"assert main(['plan', '{SD15}', '--data.source', '{tmp_path}', '--data.format', 'folder']) == 0; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fits: 6.6 of 80.0 GiB on 1 x A100 80 GB SXM, 1.3 hours of training\n")
    assert f"(the rows of {tmp_path})" in done.stdout
