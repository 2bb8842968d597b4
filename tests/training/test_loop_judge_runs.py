"""Whole runs with loop.judge: every kind of method, clips, a judge that is a process, several processes."""

from dataclasses import replace

import pytest
import torch

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.method import MethodConfig
from seppo_core.run.history import read_events, read_metrics
from seppo_image import commands
from seppo_video.__main__ import main as seppo_video
from tests.dying import killed_before_update
from tests.judges import process_judge
from tests.training.judged_runs import COUNT, JUDGE, assert_same, config_of, drawn_here, red, watched
from tests.training.test_processes import trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:AnimateDiff's motion modules were trained on linear betas"),
]


def test_the_best_wins_against_the_reference_s_own_sample(prompts, tmp_path, monkeypatch):
    made = watched(config_of(prompts, tmp_path / "run", "seppo"), monkeypatch)
    latents = drawn_here(made.parts, 1, 4)
    batch, place = made.places[4]
    torch.testing.assert_close(batch.x0[place], latents[red(made.parts, latents).argmax()], atol=1e-4, rtol=1e-3)
    assert all(not torch.allclose(batch.counterpart[place], one, atol=0.1) for one in latents)


def test_a_process_that_breaks_loses_no_run(prompts, tmp_path, judged_run):
    judge, ill = process_judge(tmp_path)
    config = config_of(prompts, tmp_path / "run", judge=judge)
    ill.touch()
    with pytest.raises(
        ValueError, match=r"loop.judge red: .*answers nothing.*the same command goes on: samples and 0 scores"
    ):
        commands.train(config)
    assert read_events(tmp_path / "run")[-1]["event"] == "failed"
    ill.unlink()
    commands.train(config)
    lines, theirs = read_metrics(tmp_path / "run"), read_metrics(judged_run)
    assert len(lines) == 4 and not list((tmp_path / "run").glob(".*"))
    # means of single pixels in eight bits, so that it may choose otherwise where two are close
    assert 0 < lines[0]["judge_worst"] < lines[0]["judge_score"] < lines[0]["judge_best"] < 255
    assert [line["iteration"] for line in lines] == [line["iteration"] for line in theirs]


@pytest.mark.parametrize(
    ("method", "mode"), [("sft", "full"), ("sft", "lora"), ("gt_pair", "lora"), ("sspo", "full"), ("mapo", "lora")]
)
def test_every_method_of_winners_or_pairs_learns_from_captions_and_resumes(prompts, tmp_path, method, mode):
    def made(run):
        config = config_of(prompts, run, "sft", mode)
        return replace(
            config,
            method=MethodConfig.variants()[method](**({"beta": 50} if method[0] in "gs" and method != "sft" else {})),
        )

    commands.train(made(tmp_path / "whole"))
    with killed_before_update(3):
        commands.train(made(tmp_path / "run"))
    commands.train(made(tmp_path / "run"))
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert ("reference" in read_metrics(tmp_path / "run")[0]) == made("x").method.spec.uses_reference


@pytest.mark.parametrize("method", ["dpo", "seppo"])
def test_two_processes_equal_one(prompts, tmp_path, method):
    config = config_of(prompts, tmp_path / "two", method, micro_batch_size=1)
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    status, told = trained(path, 2)
    assert status == 0, told[-3000:]
    commands.train(replace(config, run=str(tmp_path / "one")))
    for a, b in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        for name in ("loss", "grad_norm", "judge_score", "judge_best", "judge_worst"):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-4), (a["update"], name)


def test_a_judge_that_breaks_in_one_of_two_processes_ends_both_with_its_line(prompts, tmp_path):
    config = config_of(prompts, tmp_path / "two", judge="tests.judges:failing", micro_batch_size=1)
    (tmp_path / "config.yaml").write_text(resolved_yaml(config))
    status, told = trained(tmp_path / "config.yaml", 2)
    assert status == 2 and told.count("loop.judge tests.judges:failing: 0 of 3 samples of") == 1


@pytest.mark.parametrize("method", ["nft", "dpo"])
def test_clips_are_judged_too(clips, tmp_path, method):
    (tmp_path / "prompts.txt").write_text("a bar moves\na red bar")
    asked = [
        str(clips / "config.yaml"), "--run", str(tmp_path / "run"), "--data.source", str(tmp_path / "prompts.txt"),
        "--data.cache", str(tmp_path / "cache"), "--data.supervision", "prompts", "--loop.judge", JUDGE,
        "--loop.judge_samples", "2", "--method.name", method, "--method.beta", "1",
    ]  # fmt: skip
    assert seppo_video(["prepare", *asked]) == 0
    assert seppo_video(["train", *asked]) == 0
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 4 and all(line["judge_worst"] < line["judge_best"] for line in lines)
    if method == "nft":
        # two samples of a caption lie one standard deviation from their mean, on either side
        assert [line["reward"] for line in lines] == pytest.approx([0.5] * 4)
        assert lines[0]["drift"] == 0 < lines[1]["drift"]


def test_every_sample_is_an_item_with_its_reward(prompts, tmp_path, monkeypatch):
    """DiffusionNFT's batches against samples that are drawn and measured here."""
    config = config_of(prompts, tmp_path / "run", "sft", updates_per_iteration=3)
    made = watched(replace(config, method=MethodConfig.variants()["nft"](reward_clip=1.5)), monkeypatch)
    for group in (2, 3):
        latents = drawn_here(made.parts, 1, group)
        measured = red(made.parts, latents)
        wanted = 0.5 + 0.5 * ((measured - measured.mean()) / (1.5 * measured.std(correction=0))).clamp(-1, 1)
        for place in range(COUNT):
            batch, index = made.places[COUNT * group + place]
            torch.testing.assert_close(batch.x0[index], latents[place], atol=1e-4, rtol=1e-3)
            assert batch.reward[index].item() == pytest.approx(wanted[place].item(), abs=0.05)
