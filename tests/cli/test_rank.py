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

from seppo_core.cli.rank import _noise_decides
from seppo_core.config.options import RankRequest
from seppo_core.judging.ranking import Scored, rank
from seppo_core.judging.sample_judge import FunctionJudge, _content
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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompt_file": "f"}, r"both given"),
        ({"steps": 0}, r"--steps 0 must be at least 1"),
        ({"guidance_scale": float("nan")}, r"--guidance_scale nan must be at least 0"),
    ],
)
def test_what_cannot_be_drawn_is_told_with_the_command(changes, told):
    with pytest.raises(ValueError, match=told):
        request("out", **changes)


def test_prompts_that_a_file_no_longer_holds_are_left_out_of_the_table(workshop, tmp_path):
    config, out, file = workshop.config(tmp_path / "run"), tmp_path / "ranked", tmp_path / "prompts.txt"
    for prompts in (PROMPTS, PROMPTS[1:]):
        file.write_text("\n".join(prompts))
        commands.rank(config, request(out, prompts=(), prompt_file=str(file), samples=2))
        assert [row["caption"] for row in lines(out / "metadata.jsonl")] == list(prompts)


def judge_of(folder, monkeypatch, body: str) -> FunctionJudge:
    folder.mkdir()
    (folder / "own_judge.py").write_text(body)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "own_judge", raising=False)
    return FunctionJudge("own_judge:score", "image", None)


def test_a_function_that_computes_otherwise_is_another_judge(tmp_path, monkeypatch):
    text = "def score(pixels, prompts):\n    return [one.mean() - .5 if 'red' in {'red', 'a'} else 0 for one in pixels]"
    changes = ((".5", ".7"), ("mean", "amax"), ("'a'", "''"))
    texts = [text, f"# moved\n\n{text}", *(text.replace(*pair) for pair in changes)]
    found = [judge_of(tmp_path / str(n), monkeypatch, one).fingerprint for n, one in enumerate(texts)]
    assert found[0] == found[1] and len(set(found)) == 4
    for number, (body, told) in enumerate(
        (("score = 0.5", r"is a float; give a function of pixels and prompts"),
         ("def score(pixels): ...", r"cannot be called with two values \(too many positional arguments\); give"))
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"--judge own_judge:score {told}"):
            judge_of(tmp_path / f"ill {number}", monkeypatch, body)
    # a set of words has another order in every process
    assert _content(frozenset("abc")) == repr(["'a'", "'b'", "'c'"])


@pytest.mark.parametrize(
    ("scheduler", "values", "known"),
    [
        ("PNDMScheduler", {}, True),
        ("EulerAncestralDiscreteScheduler", {}, False),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, False),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, False),
    ],
)
def test_the_base_s_own_solver_decides_whether_one_noise_gives_a_sample(workshop, tmp_path, scheduler, values, known):
    base = tmp_path / "base"
    (base / "scheduler").mkdir(parents=True)
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", scheduler]}
    (base / "model_index.json").write_text(json.dumps(index))
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(values))
    config = workshop.config(tmp_path / "run")
    config = replace(config, model=replace(config.model, base=str(base)))
    assert _noise_decides(config, "default") == known
    assert _noise_decides(config, "ddim") and not _noise_decides(config, "ddpm")


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
