"""`rank`: the judge's best of a model's own samples become data that `prepare` reads."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seppo_core.config.options import RankRequest
from seppo_core.judging.ranking import Scored, rank
from seppo_image import commands

JUDGE = Path(__file__).parents[1] / "benchmarks" / "quality" / "judge_script.py"
asked: list[str] = []
"""Prompts of the samples that `redness` has judged."""
PROMPTS = ("a red wall", "a green wall", "a blue wall")


def redness(pixels: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    assert pixels.shape[1:] == (3, 64, 64) and len(pixels) == len(prompts)
    assert -1 <= pixels.min() and pixels.max() <= 1
    asked.extend(prompts)
    return pixels[:, 0].mean((1, 2))


def request(out, **changes) -> RankRequest:
    judge = f"{__name__}:redness"
    return RankRequest(**{"judge": judge, "prompts": PROMPTS, "samples": 3, "steps": 2, "out": str(out)} | changes)


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def red_of(path) -> float:
    return float(np.asarray(Image.open(path))[..., 0].mean())


def test_the_table_holds_the_judge_s_best_and_worst_and_prepare_reads_it(workshop, tmp_path, capsys):
    config, out = workshop.config(tmp_path / "run"), tmp_path / "ranked"
    commands.rank(config, request(out, supervision="pairs"))
    rows = lines(out / "metadata.jsonl")
    assert [row["caption"] for row in rows] == list(PROMPTS)
    for number, row in enumerate(rows):
        reds = {f"samples/{number:05d}-seed{seed}.png": 0.0 for seed in range(3)}
        reds = {name: red_of(out / name) for name in reds}
        assert row["file_name"] == max(reds, key=reds.get)
        assert row["loser_file_name"] == min(reds, key=reds.get)
        assert row["noise_key"] == {"key": [row["seed"], "draw", row["caption"]], "size": [64, 64, 1]}
    assert f"3 rows of pairs: {out / 'metadata.jsonl'}" in capsys.readouterr().out
    data = replace(config.data, source=str(out), cache=str(tmp_path / "cache"), supervision="pairs")
    commands.prepare(replace(config, data=data))
    assert "3 items with 3 distinct captions" in capsys.readouterr().out


def test_it_goes_on_where_it_was_stopped_and_refuses_another_request(workshop, tmp_path, monkeypatch):
    config, out = workshop.config(tmp_path / "run"), tmp_path / "ranked"
    commands.rank(config, request(out))
    whole = lines(out / "metadata.jsonl")
    scores = (out / "scores.jsonl").read_text().splitlines(keepends=True)
    (out / "metadata.jsonl").unlink()
    (out / "scores.jsonl").write_text("".join(scores[:5]))
    asked.clear()
    commands.rank(config, request(out))
    assert lines(out / "metadata.jsonl") == whole
    assert len(asked) == 4
    with pytest.raises(ValueError, match=r"ranked otherwise \(samples\).*another folder"):
        commands.rank(config, request(out, samples=4))


def test_a_sample_that_the_judge_fails_on_costs_itself_alone(workshop, tmp_path, capsys):
    config, out = workshop.config(tmp_path / "run"), tmp_path / "ranked"
    commands.rank(config, request(out, judge=f"{__name__}:choosy", samples=2))
    assert [row["caption"] for row in lines(out / "metadata.jsonl")] == ["a red wall", "a blue wall"]
    told = capsys.readouterr().out
    assert "without a score: 2 samples, e.g. 00001-seed0.png: ValueError: no green" in told
    with pytest.raises(ValueError, match=r"test_rank:nothing cannot be imported .*module:function"):
        commands.rank(config, request(tmp_path / "other", judge=f"{__name__}:nothing"))
    with pytest.raises(ValueError, match=r"--samples 1 must be at least 2"):
        request(out, samples=1)


def test_a_judge_that_answers_nothing_is_one_line_and_loses_nothing(workshop, tmp_path, monkeypatch):
    config, out = workshop.config(tmp_path / "run"), tmp_path / "ranked"
    script = tmp_path / "judge.py"
    shutil.copy(JUDGE, script)
    broken = f"light={sys.executable} {script} --die-at wall"
    told = rf"light answers nothing: the judge ended with status 3.* 0 scores are kept in {out}, and the same command"
    with pytest.raises(ValueError, match=told):
        commands.rank(config, request(out, judge=broken, column="light_light", samples=2))
    assert len(list((out / "samples").glob("*.png"))) == 6 and not (out / "metadata.jsonl").exists()


def choosy(pixels: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    if "a green wall" in prompts:
        raise ValueError("no green")
    return redness(pixels, prompts)


def test_ranking_by_hand():
    scored = [Scored(f"a{seed}", "a", seed, score) for seed, score in enumerate((0.5, 0.9, 0.9))]
    scored.append(Scored("b0", "b", 0, 1.0))
    ranked = rank(scored, "labels")
    assert [(row["file_name"], row["label"]) for row in ranked.rows] == [("a1", 1), ("a0", 0)]
    assert ranked.left_out == {"b": "only one sample has a score"}
    assert rank(scored[:3], "winners", min_gap=0.5).left_out == {"a": "best and worst differ by 0.4"}
