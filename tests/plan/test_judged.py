"""What `plan` counts of a judge in the loop: what is drawn for it, decoded for it, kept for it."""

from dataclasses import replace

import pytest

from seppo_core.config.method import MethodConfig
from seppo_core.config.options import PlanRequest
from seppo_core.plan.counts import key_of
from seppo_core.plan.estimate import make_plan
from seppo_core.plan.report import as_text
from seppo_core.run.disk_budget import run_bytes

pytestmark = pytest.mark.slow


def judged(workshop, run, method: str, samples: int = 3):
    config = workshop.config(run, "lora", "sft")
    return replace(
        config,
        method=MethodConfig.variants()[method](),
        data=replace(config.data, supervision="prompts", flip=False),
        loop=replace(config.loop, judge="tests.judges:redness", judge_samples=samples),
    )


@pytest.mark.parametrize(("method", "drawn"), [("dpo", 3), ("seppo", 4), ("sft", 3), ("nft", 1)])
def test_samples_of_the_policy_and_of_the_reference_are_counted(workshop, tmp_path, method, drawn):
    config = judged(workshop, tmp_path / "run", method)
    plan = make_plan(config, PlanRequest(items=5))
    # two iterations of three updates of four, DDIM in two steps with guidance
    assert (plan.counts.generated, plan.counts.calls) == (2 * 12 * drawn, 4)
    candidates = 1 if method == "nft" else 3
    assert plan.counts.judged_per_iteration == 12 * candidates
    decoded = plan.flops.generation - plan.counts.generated * plan.flops.generated_sample
    assert plan.flops.generated_sample == 4 * plan.flops.forward and decoded > 0
    shape = 4 * 8 * 8
    asked = run_bytes(config, [], 4 * shape)
    assert plan.disk.samples == asked["reference samples"] + asked["judged samples"] == 12 * drawn * 4 * shape
    (line,) = [line for line in as_text(plan).splitlines() if "scored by loop.judge" in line]
    assert line.split()[-1] == str(12 * candidates)
    # every iteration's policy is kept: it draws
    assert plan.disk.pool == 2 * plan.parameters.trained * 4
    assert any(name.startswith("reference") for name in plan.phases["generation"])
    assert plan.phases["decoding"] and any(
        "loop.judge=tests.judges:redness needs memory" in one for one in plan.assumptions
    )


def test_a_judge_is_part_of_what_a_stored_count_is_of(workshop, tmp_path):
    config = judged(workshop, tmp_path / "run", "dpo")
    other = replace(config, loop=replace(config.loop, judge="tests.judges:failing", judge_samples=7))
    assert key_of(config) == key_of(other) != key_of(workshop.config(tmp_path / "run", "lora", "dpo"))
