"""The command on tiny runs that really were trained: the toy task with its exact score, clips, LoRA, and processes."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.evaluation.anchor.main import main
from benchmarks.evaluation.anchor.measure import Plan, measure, open_run, points, spread
from benchmarks.experiments.toy.task.mixture import draw_samples
from benchmarks.experiments.toy.task.sets import write_set
from seppo_core.config.loader import load_config
from seppo_core.config.schema import TuneConfig
from seppo_core.io.rng import keyed_normal
from seppo_core.models.tuning import load_trainable_state
from seppo_core.toy.captions import train_captions
from seppo_core.toy.score import score_images
from seppo_image import commands as image_commands
from seppo_image.config import ImageConfig
from seppo_video import commands as video_commands
from seppo_video.config import VideoConfig

ROOT = Path(__file__).parents[3]
JUDGE = ROOT / "tests" / "benchmarks" / "quality" / "judge_script.py"


def train(root: Path, kind: str, **changes) -> Path:
    """Three iterations of two updates on eight winners of the toy task."""
    captions = train_captions(kind)[::20][:8]
    pixels = draw_samples(kind, captions, torch.Generator().manual_seed(0))
    write_set(root / "winners", kind, pixels, captions)
    schema, commands = (ImageConfig, image_commands) if kind == "image" else (VideoConfig, video_commands)
    config = load_config(ROOT / "configs" / "toy" / f"{kind}_seppo.yaml", schema)
    places = {name: str(ROOT / place) for name, place in config.weight_paths().items() if place is not None}
    model = replace(config.model, **{name.removeprefix("model."): place for name, place in places.items()})
    config = replace(
        config,
        run=str(root / "run"),
        model=model,
        data=replace(config.data, source=str(root / "winners"), cache=str(root / "cache")),
        reference_samples=replace(config.reference_samples, steps=2, batch_size=8),
        loop=replace(
            config.loop, iterations=3, updates_per_iteration=2, batch_size=4, micro_batch_size=4, checkpoint_every=2
        ),
        optimizer=replace(config.optimizer, lr=3e-3, warmup_updates=1),
        preview=replace(config.preview, prompts=()),
        **changes,
    )
    commands.prepare(config)
    commands.train(config)
    return root / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("toy"), "image")


def test_points_are_what_the_run_went_through(run):
    opened = open_run(run)
    found = points(opened)
    assert [(point.update, point.iteration) for point in found] == [(2, 0), (4, 1), (6, 2)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    drawn = {line["update"]: line["reference"] for line in lines if "reference" in line}
    assert [point.reference for point in found] == [drawn[2], drawn[4], drawn[6]]
    assert [point.reference for point in points(opened, "latest")] == [0, 1, 2]
    assert [point.reference for point in points(opened, "initial")] == [0, 0, 0]
    # a snapshot is the policy at the end of the iteration before it
    snapshot, checkpoint = found[1].policy_state(), run / "checkpoints" / "update-000004" / "policy.safetensors"
    if checkpoint.is_file():
        assert all(torch.equal(value, load_file(checkpoint)[name]) for name, value in snapshot.items())
    assert [point.update for point in spread(found, 2)] == [4, 6] and spread(found, None) == found


def test_measured_signs_and_samples_are_the_models_own(run, tmp_path):
    opened = open_run(run)
    point = points(opened, "initial")[-1]
    found = measure(opened, point, Plan((1, 4, 6), draws=4, samples=2, batch_size=2), tmp_path)
    assert found.policy_samples.shape == (3, 2, 1, 32, 32, 3) and found.plus.shape == (3, 4)
    assert torch.equal(found.plus, found.winner_gap < 0)
    # one draw in each quarter of the timesteps
    assert ((found.u * 4).long() == torch.arange(4)).all()
    assert torch.equal(found.t, (found.u * 1000).long())
    assert not torch.equal(found.policy_samples, found.reference_samples)
    assert not torch.equal(found.policy_samples[:, 0], found.policy_samples[:, 1])
    # the gap of one draw, from the two models by themselves
    adapter, cache = opened.adapter, opened.cache
    key = (0, "anchor draw", 4, 2)
    x_0 = cache.posterior([4], [False]).sample(keyed_normal(cache.latent_shape, *key, "posterior")[None])
    noise, t = keyed_normal(cache.latent_shape, *key, "winner")[None], found.t[1, 2][None]
    errors = []
    for state in (point.policy_state(), point.reference_state()):
        load_trainable_state(adapter.denoiser, state)
        with torch.no_grad():
            prediction = adapter.predict(
                adapter.denoiser, adapter.path.add_noise(x_0, noise, t), t, cache.condition([4], [False])
            )
        errors.append((prediction - adapter.path.target(x_0, noise, t)).square().mean())
    assert found.winner_gap[1, 2].item() == pytest.approx((errors[0] - errors[1]).item(), rel=1e-3, abs=1e-6)


def test_the_exact_score_judges_a_toy_run(run, tmp_path, capsys):
    options = ["--judges", "toy", "--items", "8", "--draws", "4", "--bins", "2", "--out", str(tmp_path)]
    assert main([str(run), *options]) == 0
    report = json.loads((tmp_path / "anchor.json").read_text(encoding="utf-8"))
    assert (report["format"], report["kind"], report["items"]) == (1, "seppo-anchor-report", 8)
    (judge,) = report["judges"]
    assert judge["name"] == "toy" and [point["update"] for point in judge["points"]] == [2, 4, 6]
    last = judge["points"][-1]
    assert [row["scope"] for row in last["overall"]] == ["one draw", "mean of draws"] and len(last["bins"]) == 2
    assert last["bins"][0]["t"][1] < 500 <= last["bins"][1]["t"][0]
    # the judge's margin, from the samples themselves
    opened = open_run(run)
    plan = Plan(tuple(range(8)), draws=4)
    measured = measure(opened, points(opened)[-1], plan, tmp_path)
    captions = opened.cache.captions(list(range(8)))
    scores = [
        score_images(samples[:, 0, 0].permute(0, 3, 1, 2).float() / 127.5 - 1, captions)
        for samples in (measured.policy_samples, measured.reference_samples)
    ]
    margin = scores[0] - scores[1]
    assert last["mean_margin"] == pytest.approx(margin.mean().item(), abs=1e-6)
    decided = margin != 0
    right = (measured.plus & (margin > 0)[:, None])[decided].sum() / max(1, measured.plus[decided].sum())
    value = last["overall"][0]["precision"]
    assert value is None or value[0] == pytest.approx(right.item())
    told = capsys.readouterr().out
    assert "precision +" in told and (tmp_path / "anchor.html").read_text(encoding="utf-8").count("<svg") >= 3


@pytest.mark.slow
def test_it_goes_on_and_judges_with_a_process_too(run, tmp_path, monkeypatch):
    options = [str(run), "--items", "4", "--draws", "2", "--bins", "1", "--points", "1", "--out", str(tmp_path)]
    assert main([*options, "--judges", "toy"]) == 0
    before = json.loads((tmp_path / "anchor.json").read_text(encoding="utf-8"))["judges"]

    def never(*_):
        raise AssertionError("what was measured is not measured again")

    monkeypatch.setattr("benchmarks.evaluation.anchor.measure._measure", never)
    assert main([*options, "--judges", "toy", "--plugin", f"light={sys.executable} {JUDGE}"]) == 0
    toy, light = json.loads((tmp_path / "anchor.json").read_text(encoding="utf-8"))["judges"]
    assert [toy] == before and light["name"] == "light" and light["failed"] == 0
    assert light["points"][0]["items"] == 4


@pytest.mark.slow
def test_a_lora_run(tmp_path):
    """Policy and reference share the base; the reference's LoRA is switched in."""
    opened = open_run(train(tmp_path, "image", tune=TuneConfig(mode="lora", rank=2)))
    plan = Plan((0, 3), draws=2)
    first, last = points(opened, "initial")[0], points(opened, "initial")[-1]
    early, late = (measure(opened, point, plan, tmp_path) for point in (first, last))
    # the same start stands against both, whatever was loaded in between
    assert torch.equal(early.reference_samples, late.reference_samples)
    assert not torch.equal(early.policy_samples, late.policy_samples)
    assert (late.winner_gap != 0).any() and not torch.equal(early.winner_gap, late.winner_gap)
    start = replace(first, policy_state=lambda: opened.initial)
    same = measure(opened, start, plan, tmp_path / "same")
    assert (same.winner_gap == 0).all() and torch.equal(same.policy_samples, same.reference_samples)
    # a tie is no victory: the loss takes it for s = -1
    assert not same.plus.any()


def test_a_run_of_captions_alone_is_looked_at_on_other_winners(run, tmp_path):
    shutil.copy(ROOT / "configs" / "toy" / "image_online_seppo.yaml", tmp_path / "config.yaml")
    with pytest.raises(ValueError, match="learnt from captions alone and keeps no winners"):
        open_run(tmp_path)
    assert len(open_run(tmp_path, run.parent / "cache").cache) == 8


@pytest.mark.slow
def test_clips(tmp_path):
    folder = train(tmp_path, "video")
    options = ["--items", "4", "--draws", "2", "--bins", "1", "--points", "1", "--judges", "toy", "temporal_flickering"]
    assert main([str(folder), *options]) == 0
    judges = json.loads((folder / "anchor" / "anchor.json").read_text(encoding="utf-8"))["judges"]
    assert [judge["name"] for judge in judges] == ["toy", "temporal_flickering"]
    assert all(judge["points"][0]["items"] == 4 for judge in judges)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--judges", "toy"], "nowhere is not a run folder"),
        (["nowhere"], "--judges is missing"),
        (["nowhere", "--judges", "toy", "--draws", "7"], "--draws 7 is not a multiple of --bins 5"),
        (["nowhere", "--judges", "toy", "--items", "0"], "--items 0 must be at least 1"),
        (["RUN", "--judges", "fid[clean]"], "judges no sample by itself"),
        (["RUN", "--judges", "nonsense"], "no metric 'nonsense'"),
        (["RUN", "--judges", "pickscore"], "judges lack files"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message, run, tmp_path, capsys):
    arguments = [str(run) if argument == "RUN" else argument for argument in arguments]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == (2 if message.startswith("--") else 1)
    assert message in capsys.readouterr().err
