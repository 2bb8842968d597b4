"""A judge scores what previews show; the best checkpoint stays; a judge that fails costs its score and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tests.judges
from seppo_core.config.loader import load_config
from seppo_core.config.options import SampleRequest
from seppo_core.config.training import PreviewConfig
from seppo_core.distributed.signals import Stopped
from seppo_core.report.page import save_page
from seppo_core.run.checkpoint import CheckpointFolder
from seppo_core.run.history import read_events, read_lines
from seppo_core.run.previews import read_previews
from seppo_core.run.status import read_status, status_text
from seppo_core.training.preview_judge import PreviewJudge
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from seppo_image.__main__ import main as seppo_image
from seppo_image.config import ImageConfig
from tests.dying import killed_before_update
from tests.judges import PROMPTS, judged, process_judge
from tests.training.disturb import at, terminate
from tests.training.test_resume import assert_same_run, logged

target = 0.0
"""Redness that `like_target` prefers."""


def like_target(pixels: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return -(tests.judges.redness(pixels, prompts).mean() - target).abs().expand(len(pixels))


def config_of(workshop, run, preview):
    config = workshop.config(run, method="sft", preview=replace(preview, steps=2, guidance_scale=1))
    loop = replace(config.loop, keep_checkpoints=1, keep_best=preview.judge is not None, validate_items=1)
    return replace(config, loop=loop)


def tiles(run, update: int, prompt: int) -> np.ndarray:
    """The two samples of a prompt, (2, h, w, 3), of which the right half of the grid is that update's."""
    with Image.open(run / "previews" / f"update-{update:06d}.png") as picture:
        pixels = np.asarray(picture)[64 * prompt : 64 * (prompt + 1), -128:]
    return np.stack([pixels[:, :64], pixels[:, 64:]])


def save_page_until(run, update):
    """Writes pages until the preview of that update is in the index."""

    def save(path, page):
        if read_previews(run).at(update) is not None:
            raise OSError("no space left")
        save_page(path, page)

    return save


@pytest.fixture(scope="module")
def runs(workshop, tmp_path_factory):
    """Folders of a run whose previews nothing scores, and of one that is the same but for a judge who likes best what
    the first one drew after update 2."""
    global target
    folder = tmp_path_factory.mktemp("scored")
    plain = PreviewConfig(prompts=PROMPTS, every=2, per_prompt=2)
    commands.train(config_of(workshop, folder / "plain", plain))
    shown = np.stack([tiles(folder / "plain", 2, prompt) for prompt in (0, 1)])
    target = float((shown[..., 0] / 127.5 - 1).mean())
    scored = replace(plain, judge=f"{__name__}:like_target", judged_per_prompt=2)
    commands.train(config_of(workshop, folder / "judged", scored))
    return folder, scored


def test_nothing_that_is_drawn_or_learnt_changes(runs):
    folder, _ = runs
    assert_same_run(folder / "judged", folder / "plain")
    for update in (0, 2, 4, 6):
        name = f"previews/update-{update:06d}.png"
        assert (folder / "judged" / name).read_bytes() == (folder / "plain" / name).read_bytes()


def test_the_best_stays_and_is_found_and_all_is_told(runs, workshop, tmp_path, capsys):
    folder, preview = runs
    run = folder / "judged"
    assert [path.name for path in CheckpointFolder(run / "checkpoints").list()] == ["update-000002", "update-000006"]
    assert [path.name for path in CheckpointFolder(folder / "plain" / "checkpoints").list()] == ["update-000006"]
    previews = read_previews(run)
    assert previews.best().mean.value == pytest.approx(0, abs=1e-3)
    lines = [line for line in read_lines(run / "metrics.jsonl") if "preview" in line]
    assert [line["preview"] for line in lines] == [0, 2, 4, 6]
    for line, record in zip(lines, previews.all, strict=True):
        assert line["preview_score"] == record.mean.value
    shown = EventAccumulator(str(run / "tensorboard")).Reload().Scalars("preview_gain")
    assert [event.step for event in shown] == [2, 4, 6]
    told = status_text(read_status(run))
    assert "score       tests.training.test_scored_previews:like_target -" in told
    assert "best        update-000002, " in told and "chosen as the best of 3, so likely too high" in told
    request = SampleRequest(prompts=PROMPTS[:1], checkpoint="best", steps=2, out=str(tmp_path / "samples"))
    commands.sample(config_of(workshop, run, preview), request)
    assert "from update-000002" in capsys.readouterr().out


def test_the_page_is_there_at_the_end_and_as_long_as_the_run_lives(runs, workshop, tmp_path, monkeypatch):
    folder, preview = runs
    text = (folder / "judged" / "report.html").read_text()
    assert "finished, update 6 of 6" in text and 'http-equiv="refresh"' not in text
    seen = []
    update = Trainer._update

    def watching(self, number, batches):
        if number == 5:
            seen.append((tmp_path / "run" / "report.html").read_text())
        return update(self, number, batches)

    monkeypatch.setattr(Trainer, "_update", watching)
    # a page that cannot be written is told, and costs nothing else
    monkeypatch.setattr("seppo_core.report.run_page.save_page", save_page_until(tmp_path / "run", 6))
    commands.train(config_of(workshop, tmp_path / "run", preview))
    assert "running, update 4 of 6" in seen[0] and 'http-equiv="refresh"' in seen[0]
    assert_same_run(tmp_path / "run", folder / "judged")


@pytest.mark.slow
def test_the_runs_side_by_side_by_samples_that_are_drawn(runs, tmp_path):
    folder, _ = runs
    asked = ["--prompts", "a grey wall", "--seeds", "3", "5", "--steps", "2", "--out", str(tmp_path / "out")]
    names = [f"{folder / 'judged'}:best", str(folder / "plain")]
    assert seppo_image(["compare", *names, *asked]) == 0
    for number, checkpoint in enumerate((f"{folder / 'judged'}/checkpoints/update-000002", "latest")):
        request = SampleRequest(
            prompts=("a grey wall",), seeds=(3, 5), steps=2, checkpoint=checkpoint, out=str(tmp_path / str(number))
        )
        config = load_config(folder / "plain" / "config.yaml", ImageConfig)
        commands.sample(replace(config, run=str(folder / "plain")), request)
        drawn = [Image.open(tmp_path / str(number) / f"00000-seed{seed}.png") for seed in (3, 5)]
        shown = np.asarray(Image.open(tmp_path / "out" / f"{number}.png"))
        assert (shown == np.concatenate([np.asarray(one) for one in drawn], axis=1)).all()
    assert "Drawn for this page: 2 steps, guidance 1, seeds 3, 5." in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("cut", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_killed_run_comes_to_the_same_scores_and_the_same_best(runs, workshop, tmp_path, monkeypatch, cut):
    folder, preview = runs
    config = config_of(workshop, tmp_path / "run", preview)
    # checkpoints are due at other updates than previews
    config = replace(config, loop=replace(config.loop, checkpoint_every=3))
    with killed_before_update(cut):
        commands.train(config)
    page, train, seen = tmp_path / "run" / "report.html", Trainer._train, []
    page.write_text("stopped")
    monkeypatch.setattr(Trainer, "_train", lambda *given: (seen.append(page.read_text()), train(*given)))
    commands.train(config)
    assert "running, update" in seen[0]
    assert_same_run(tmp_path / "run", folder / "judged")
    assert read_previews(tmp_path / "run").all == read_previews(folder / "judged").all
    kept = [path.name for path in CheckpointFolder(tmp_path / "run" / "checkpoints").list()]
    assert kept == ["update-000002", "update-000006"]


@pytest.mark.slow
def test_a_signal_while_the_judge_is_at_it_has_it_done_again(runs, workshop, tmp_path, monkeypatch):
    folder, preview = runs
    with monkeypatch.context() as patch:
        at(patch, PreviewJudge, "scored", 2, terminate)
        with pytest.raises(Stopped, match="after update 2 of 6"):
            commands.train(config_of(workshop, tmp_path / "run", preview))
    assert [one.update for one in read_previews(tmp_path / "run").all] == [0]
    commands.train(config_of(workshop, tmp_path / "run", preview))
    assert read_previews(tmp_path / "run").all == read_previews(folder / "judged").all
    assert_same_run(tmp_path / "run", folder / "judged")


@pytest.mark.slow
def test_more_samples_than_are_shown_and_a_judge_that_is_a_process(runs, workshop, tmp_path):
    folder, _ = runs
    judge, ill = process_judge(tmp_path)
    preview = PreviewConfig(
        prompts=PROMPTS, every=4, per_prompt=2, judge=judge, judged_per_prompt=3
    )  # fmt: skip
    run = tmp_path / "run"
    config = config_of(workshop, run, preview)
    update = Trainer._update

    def infecting(self, number, batches):
        if number == 3:
            ill.touch()
        return update(self, number, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", infecting)
        commands.train(config)
    assert_same_run(run, folder / "plain")
    start, middle, end = read_previews(run).all
    assert [len(row) for row in start.scores] == [3, 3]
    for prompt in (0, 1):
        reds = [np.round(tile[..., 0].mean()) for tile in tiles(run, 0, prompt)]
        assert start.scores[prompt][:2] == pytest.approx(reds, abs=0.5)
    assert middle.scores is None and end.scores is None
    assert "answers nothing" in middle.problem and "the card is gone" in (run / "judge.log").read_text()
    assert [event["update"] for event in read_events(run) if event["event"] == "unscored"] == [4, 6]
    assert not list(run.glob(".*")), "the files that the judge read are gone"
    # the same command has the end scored once the judge is well
    ill.unlink()
    commands.train(config)
    assert read_previews(run).at(6).complete and read_previews(run).best().update == 6


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        pytest.param(
            "failing", "4 samples of 4 without a score, e.g.: RuntimeError: the judge is ill", marks=pytest.mark.slow
        ),
        ("colour_of_prompt", "2 samples of 4 without a score, e.g.: ValueError: no red in it"),
    ],
)
def test_a_judge_that_is_broken_loses_no_run(runs, workshop, tmp_path, judge, told):
    folder, _ = runs
    run = tmp_path / "run"
    commands.train(config_of(workshop, run, judged(judge, every=4, per_prompt=2)))
    assert logged(run) == logged(folder / "plain")
    assert [path.name for path in CheckpointFolder(run / "checkpoints").list()] == ["update-000006"]
    assert read_previews(run).best() is None
    assert [event["why"] for event in read_events(run) if event["event"] == "unscored"] == [told] * 3
    assert f"no score after update 6 ({told})" in status_text(read_status(run))


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("preview", {"judge": "a:b", "prompts": ("one",)}, r"needs 2 or more different ones; preview.prompts has 1"),
        ("preview", {"judged_per_prompt": 4}, r"preview.judged_per_prompt=4 needs preview.judge"),
        ("loop", {"keep_best": True}, r"loop.keep_best=true .* set preview.judge"),
    ],
)
def test_settings_that_cannot_work_are_refused(workshop, tmp_path, section, changes, message):
    config = workshop.config(tmp_path)
    with pytest.raises(ValueError, match=message):
        replace(config, **{section: replace(getattr(config, section), **changes)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge": "hps_v9"}, r"no scorer 'hps_v9'; there are"),
        ({"judge": "tests.judges:gone"}, r"preview.judge tests.judges:gone cannot be imported"),
        ({"judge": "tests.judges:redness", "judge_column": "x"}, r"preview.judge_column x is for judges with several"),
        ({"judge": "tests.judges:redness", "judge_places": ("pickscore.weights=x",)}, r"names files of pickscore"),
    ],
)
def test_a_judge_that_cannot_be_had_is_told_before_anything_is_loaded(
    workshop, tmp_path, monkeypatch, changes, message
):
    preview = PreviewConfig(prompts=PROMPTS, **changes)
    monkeypatch.setattr(commands, "load", lambda *_: pytest.fail("the base was loaded"))
    with pytest.raises(ValueError, match=message):
        commands.train(workshop.config(tmp_path / "run", preview=preview))


def test_metrics_stay_one_line_an_update_for_whoever_reads_them(runs):
    folder, _ = runs
    text = (folder / "judged" / "metrics.jsonl").read_text()
    assert [line["update"] for line in map(json.loads, text.splitlines()) if "update" in line] == [1, 2, 3, 4, 5, 6]
    assert "another content" not in status_text(read_status(folder / "judged"))
