"""Whole runs with loop.judge on flow transformers: winners and rewards of samples that the run itself draws."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seppo_core.config.method import MethodConfig
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.run.history import read_metrics
from tests.contract.family import is_flow
from tests.contract.rows import FAMILIES
from tests.contract.test_runs import base_of, commands_of, config_of
from tests.dying import killed_before_update
from tests.training.judged_runs import JUDGE, assert_same, watched

COUNT = 2
OPTIONS = {"seppo": {"beta": 50}, "nft": {"old_decay_rise": 0.3}}
ROWS = {row.name: row for row in FAMILIES}


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bases")


@pytest.mark.slow
@pytest.mark.parametrize("method", OPTIONS)
@pytest.mark.parametrize(("name", "mode"), [("sana", "full"), ("wan", "lora")])
def test_a_flow_learns_from_its_judged_samples_and_resumes(bases, tmp_path, monkeypatch, name, mode, method):
    row = ROWS[name]
    commands = commands_of(row)
    (tmp_path / "winners.txt").write_text("a red house\ntwo cats\na green hill")
    plain = config_of(base_of(bases, row), tmp_path, row, mode)
    flow = {"timestep_density": "logit_normal", "timestep_shift": 3.0}
    config = replace(
        plain,
        data=replace(plain.data, source=str(tmp_path / "winners.txt"), supervision="prompts"),
        method=MethodConfig.variants()[method](**flow, **OPTIONS[method]),
        loop=replace(plain.loop, judge=JUDGE, judge_samples=COUNT, checkpoint_every=1),
    )
    commands.prepare(config)
    with monkeypatch.context() as patch:
        whole = watched(replace(config, run=str(tmp_path / "whole")), patch, commands)
    assert is_flow(whole.parts.adapter) and isinstance(whole.parts.noise_path, FlowNoisePath)
    lines = read_metrics(tmp_path / "whole")
    assert [line["iteration"] for line in lines] == [0, 0, 1, 1]
    assert all(line["judge_worst"] < line["judge_best"] for line in lines)
    batches = {id(batch): batch for batch, _ in whole.places.values()}.values()
    if method == "seppo":
        # the reference's own sample is none of those that the judge compared
        assert all(not torch.allclose(batch.x0, batch.counterpart, atol=0.01) for batch in batches)
        assert lines[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    else:
        # two samples of a caption lie one standard deviation from their mean, on either side
        rewards = sorted(value for batch in batches for value in batch.reward.tolist())
        half = len(rewards) // 2
        assert rewards == pytest.approx([0.4] * half + [0.6] * half, abs=1e-3)
        assert lines[0]["drift"] == 0 < lines[1]["drift"]
    with killed_before_update(3):
        commands.train(config)
    assert len(read_metrics(tmp_path / "run")) == 3
    commands.train(config)
    assert_same(tmp_path / "run", tmp_path / "whole")
