"""The tokens of an item split over processes (gloo): losses, gradients, files and weights of one process."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from seppo_core.cli import checks
from seppo_core.config.geometry import context_problem
from seppo_core.config.loader import load_config, resolved_yaml
from seppo_core.config.schema import Config
from seppo_core.config.training import OptimizerConfig
from seppo_core.distributed.ranks import Ranks
from seppo_core.models.context import check_context
from seppo_core.run.checkpoint import CheckpointFolder
from seppo_core.run.history import read_metrics
from seppo_video.config import VideoConfig
from tests.contract.family import Family
from tests.contract.rows import FAMILIES
from tests.contract.test_runs import base_of, bases, commands_of, config_of, write_winners  # noqa: F401
from tests.judges import assert_scored_alike, judged
from tests.training.recorded import record
from tests.training.test_process_errors import FIELDS
from tests.training.test_processes import MOVED, final, log_beside
from tests.training.together import start

SHAPE = (16, 5, 60, 104)
"""Latents of 17 frames of 480 x 832."""
SPLIT = [row for row in FAMILIES if row.model.spec.context is not None]
ROWS = [row for row in SPLIT if row is next(one for one in SPLIT if one.model.family == row.model.family)]
WAN = next(row for row in ROWS if row.model.family == "wan")


def split(config: Config, degree: int = 2, **loop) -> Config:
    return replace(config, loop=replace(config.loop, context_parallel=degree, **loop))


def trained(config: Config, processes: int, path) -> None:
    path.write_text(resolved_yaml(config))
    program = "seppo_video" if "frames:" in path.read_text() else "seppo_image"
    run = start(processes, program, "train", path, log=log_beside(path))
    assert run.finish() == 0, run.output[-3000:]
    assert "predicts with weights of the other" not in run.output and "split will not be applied" not in run.output


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_errors_and_gradients_equal_those_of_one_process(bases, tmp_path, row: Family, mode):  # noqa: F811
    """Of every single parameter: those that see all tokens, a part of them, or none."""
    write_winners(tmp_path / "winners", row)
    whole = config_of(base_of(bases, row), tmp_path, row, mode)
    loop = replace(whole.loop, iterations=1, updates_per_iteration=2, gradient_checkpointing=mode == "full")
    # with a rate at all, policy and reference differ from the second update on; the first ties
    whole = replace(whole, loop=loop, optimizer=OptimizerConfig(lr=1e-3))
    commands_of(row).prepare(whole)
    record(replace(whole, run=str(tmp_path / "one")), tmp_path / "one.safetensors")
    path = tmp_path / "split.yaml"
    path.write_text(resolved_yaml(split(replace(whole, run=str(tmp_path / "split")))))
    launch = start(2, "tests.training.recorded", tmp_path, path, log=tmp_path / "log")
    assert launch.finish() == 0, launch.output[-3000:]
    one = load_file(tmp_path / "one.safetensors")
    both = [load_file(tmp_path / f"split-{rank}.safetensors") for rank in range(2)]
    for name in FIELDS:
        assert one[name].shape == (2,)
        for found in both:
            # each process has the whole batch, whose errors are of whole items
            torch.testing.assert_close(found[name], one[name], rtol=1e-5, atol=0, msg=name)
    gradients = [name for name in one if name.startswith("gradient")]
    assert len(gradients) > 10
    largest = max(float(one[name].norm()) for name in gradients)
    for name in gradients:
        for found in both:
            assert (found[name] - one[name]).norm() <= 1e-5 * one[name].norm() + 1e-7 * largest, name
    lines, alone = read_metrics(tmp_path / "split"), read_metrics(tmp_path / "one")
    for a, b in zip(lines, alone, strict=True):
        for key in ("loss", "winner_error", "grad_norm"):
            assert a[key] == pytest.approx(b[key], rel=1e-4), (a["update"], key)


def whole_run(bases, root, mode: str, uses: int = 1) -> Config:  # noqa: F811
    """One with all that processes share: held-out items, judged previews, an average, an odd number of chunks."""
    write_winners(root / "winners", WAN)
    config = config_of(base_of(bases, WAN), root, WAN, mode)
    config = replace(
        config,
        data=replace(config.data, validation=0.3),
        loop=replace(config.loop, batch_size=4, validate_every=2, checkpoint_every=2, keep_best=True),
        optimizer=OptimizerConfig(lr=1e-3, ema_decay=0.9),
        preview=judged(every=1, per_prompt=1, steps=2),
        reference_samples=replace(config.reference_samples, batch_size=3, uses=uses),
    )
    commands_of(WAN).prepare(config)
    return config


def assert_close(run, other) -> None:
    lines, others = read_metrics(run), read_metrics(other)
    assert [line["update"] for line in lines] == [line["update"] for line in others] == [1, 2, 3, 4]
    for a, b in zip(lines, others, strict=True):
        for name in ("loss", "winner_error", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-3), (a["update"], name)
        assert a.get("held_out_error", 0) == pytest.approx(b.get("held_out_error", 0), rel=1e-3)
    a, b = final(run), final(other)
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name] - b[name]).abs().max() <= 0.05 * MOVED, name


CASES = [("lora", 2, False), ("full", 2, False), ("lora", 4, False), ("full", 4, True), ("full", 2, True)]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "processes", "sharded"), CASES)
def test_a_run_equals_one_of_one_process_and_goes_on_as_either(bases, tmp_path, mode, processes, sharded):  # noqa: F811
    """On 4 processes there are two groups, each with an item of its own."""
    # and there a sample serves two pairs
    uses = 2 if processes == 4 else 1
    one = replace(whole_run(bases, tmp_path, mode, uses), run=str(tmp_path / "one"))
    commands_of(WAN).train(one)
    several = split(replace(one, run=str(tmp_path / "several")), sharded=sharded)
    trained(several, processes, tmp_path / "several.yaml")
    assert_close(tmp_path / "several", tmp_path / "one")
    first, alone = (read_metrics(tmp_path / run)[0] for run in ("several", "one"))
    assert first["winner_error"] == pytest.approx(alone["winner_error"], rel=1e-5)
    assert first["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-5)
    assert_scored_alike(tmp_path / "several", tmp_path / "one")
    files = [sorted(path.name for path in (tmp_path / run).rglob("*.safetensors")) for run in ("several", "one")]
    assert files[0] == files[1]
    if processes == 4:
        return
    for name, kind in (("again", several), ("alone", one)):
        shutil.copytree(tmp_path / "several", tmp_path / name)
        shutil.rmtree(CheckpointFolder(tmp_path / name / "checkpoints").latest())
        config = replace(kind, run=str(tmp_path / name))
        if kind is one:
            commands_of(WAN).train(config)
        else:
            trained(config, processes, tmp_path / "again.yaml")
    again, undisturbed = final(tmp_path / "again"), final(tmp_path / "several")
    assert all(torch.equal(again[name], undisturbed[name]) for name in undisturbed)
    assert_close(tmp_path / "alone", tmp_path / "one")


def test_families_are_split_where_diffusers_has_a_plan():
    for row in FAMILIES:
        pipeline, name = getattr(diffusers, row.model.spec.pipeline), row.adapter_class.component
        asked = pipeline.__init__.__annotations__[name]
        kinds = [kind for kind in get_args(asked) or (asked,) if kind is not type(None)]
        plans = [kind._cp_plan for kind in kinds if kind._cp_plan is not None]
        assert bool(plans) is (row.model.spec.context is not None), row.name
    assert {row.model.family for row in ROWS} == {"flux", "qwen-image", "ltx", "wan"}


def test_a_family_without_a_plan_is_refused(workshop, tmp_path):
    told = r"loop\.context_parallel=2 splits .* a plan of diffusers, which has none for stable-diffusion; leave it at 1"
    with pytest.raises(ValueError, match=told):
        split(workshop.config(tmp_path / "run"))


def test_processes_that_do_not_come_out_even_are_refused():
    assert [Ranks(rank, 4).share(8, 2, 2) for rank in range(4)] == [range(4), range(4), range(4, 8), range(4, 8)]
    with pytest.raises(ValueError, match=r"context_parallel=2 splits .* over 2 processes, and this launch has 1; lau"):
        Ranks().share(4, 1, 2)
    with pytest.raises(ValueError, match=r"batch_size=2 is not .* of 2 groups of 2 processes \(loop\.context_parallel"):
        Ranks(0, 4).share(2, 2, 2)


def test_what_is_known_of_a_base_is_told_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr(checks, "Manifest", SimpleNamespace(read=lambda folder: SimpleNamespace(latent_shape=SHAPE)))
    recipe = Path(__file__).parents[2] / "configs/video/wan21_14b_lora_seppo.yaml"
    for degree, told in ((5, None), (7, r"=7 does not divide the 40 heads of attention and the \d+ tokens .*; use 5")):
        config = load_config(recipe, VideoConfig, {"loop.context_parallel": degree})
        with pytest.raises(ValueError, match=told) if told else nullcontext():
            checks._check_split(config)


def test_items_that_do_not_come_out_even_are_refused(tmp_path):
    adapter = WAN.adapter(tmp_path)
    check_context(adapter, WAN.model, 2, (4, 3, 8, 12))
    check_context(adapter, WAN.model, 1, (4, 3, 6, 10))
    with pytest.raises(ValueError, match=r"=2 does not divide the 45 tokens \(3 x 3 x 5\) of an item; use 1, or anoth"):
        check_context(adapter, WAN.model, 2, (4, 3, 6, 10))
    with pytest.raises(ValueError, match=r"=4 does not divide the 2 heads of attention of an item; use 2"):
        check_context(adapter, WAN.model, 4, (4, 3, 8, 12))
    flux = {"vae": {"latent_channels": 16}, "transformer": {"in_channels": 64, "num_attention_heads": 24}}
    assert context_problem("latents and text", 8, flux, (16, 128, 128), 512) is None
    told = context_problem("latents and text", 8, flux, (16, 128, 128), 300)
    assert told.startswith("loop.context_parallel=8 does not divide the 300 tokens of a caption (model.text_tokens)")
    assert context_problem("latents", 8, flux, (16, 128, 128), 300) is None
