"""A run that began with another config, version or model, and checkpoints that cannot be read: refused, or accepted."""

import json
import os
import re
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from seppo_core.config.options import TrainRequest
from seppo_core.io.locks import holder_of
from seppo_core.run.checkpoint import load_policy
from seppo_core.run.folder import open_run, with_draws
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from tests.dying import Killed
from tests.training.disturb import at
from tests.training.test_resume import assert_same_run, final, logged


@pytest.fixture
def begun(whole_run, tmp_path):
    """A run that stands after update 4."""
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    shutil.rmtree(run / "checkpoints" / "update-000006")
    return run


def test_a_change_is_refused_or_accepted_by_name(workshop, begun, whole_run):
    config = workshop.config(begun)
    changed = replace(config, method=replace(config.method, beta=7), optimizer=replace(config.optimizer, lr=1e-4))
    for accept in [(), ("method.beta",), ("winners",)]:
        with pytest.raises(ValueError, match=r"--accept_changes .*method\.beta optimizer\.lr") as caught:
            commands.train(changed, TrainRequest(accept_changes=accept))
        assert ("beta: 50" in str(caught.value)) is ("method.beta" not in accept)
    commands.train(changed, TrainRequest(accept_changes=("method.beta", "optimizer.lr")))
    assert [line["update"] for line in logged(begun)] == [1, 2, 3, 4, 5, 6]
    # a tenth of the rate: each update's own, and the weights move a tenth as far
    rates = [[line["lr"] for line in logged(run)] for run in (begun, whole_run)]
    assert rates[0] == pytest.approx([*rates[1][:4], *(rate / 10 for rate in rates[1][4:])])
    before, *after = (load_policy(run / "checkpoints" / f"update-{number:06d}") for run, number in
                      ((whole_run, 4), (begun, 6), (whole_run, 6)))  # fmt: skip
    moved, would = (sum(float((end[name] - before[name]).abs().sum()) for name in before) for end in after)
    assert moved / would == pytest.approx(0.1, rel=0.3)
    # from now on it is the run's own
    commands.train(changed)
    with pytest.raises(ValueError, match=r"method\.beta: 7.* -> 50"):
        commands.train(config)


def test_a_run_from_before_its_draws_had_versions_keeps_the_first(workshop, begun, tmp_path):
    config, path = workshop.config(begun), begun / "config.yaml"
    winners = json.loads((begun / "winners.json").read_text())["fingerprint"]
    assert with_draws(config, tmp_path / "new").draws == with_draws(config, begun).draws == 2
    open_run(begun, with_draws(config, begun), winners)
    assert path.read_text().count("draws: 2\n") == 1
    path.write_text(path.read_text().replace("draws: 2\n", ""))
    assert with_draws(config, begun).draws == 1
    open_run(begun, with_draws(config, begun), winners)
    with pytest.raises(ValueError, match=r"draws: 1 -> 2.*--accept_changes draws"):
        open_run(begun, with_draws(replace(config, draws=2), begun), winners)


def test_a_run_can_be_made_longer(workshop, whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path / "run")
    config = workshop.config(tmp_path / "run")
    longer = replace(config, loop=replace(config.loop, iterations=3))
    commands.train(longer, TrainRequest(accept_changes=("loop.iterations",)))
    assert [line["update"] for line in logged(tmp_path / "run")] == list(range(1, 10))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "section", "change", "updates"),
    [
        ("random", "loop", {"batch_size": 2}, 6),
        ("random", "loop", {"batch_size": 8}, 6),
        ("random", "loop", {"micro_batch_size": 4}, 6),
        ("random", "loop", {"iterations": 3}, 9),
        ("random", "loop", {"updates_per_iteration": 5}, 10),
        ("initial", "loop", {"updates_per_iteration": 5}, 10),
        ("latest", "method", {"reference": "random"}, 6),
        ("random", "method", {"reference": "latest"}, 6),
        ("random", "method", {"reference": "initial"}, 6),
        ("initial", "method", {"reference": "latest"}, None),
        ("random", "reference_samples", {"batch_size": 5}, 6),
        ("random", "reference_samples", {"steps": 3}, 6),
    ],
    ids=str,
)
def test_an_accepted_change_works_to_the_end_or_is_refused_at_once(workshop, tmp_path, first, section, change, updates):
    """From the middle of the second iteration on; `updates` are those of the whole run, None if it is refused."""
    config = workshop.config(tmp_path / "run")
    config = replace(config, method=replace(config.method, reference=first))
    commands.train(config)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "update-000006")
    before = (tmp_path / "run" / "config.yaml").read_text(), logged(tmp_path / "run")
    changed = replace(config, **{section: replace(getattr(config, section), **change)})
    request = TrainRequest(accept_changes=tuple(f"{section}.{key}" for key in change))
    if updates is None:
        with pytest.raises(ValueError, match=re.escape(f"{section}.{next(iter(change))}")):
            commands.train(changed, request)
        assert ((tmp_path / "run" / "config.yaml").read_text(), logged(tmp_path / "run")) == before
        # and the run goes on as it was
        changed, request, updates = config, TrainRequest(), 6
    commands.train(changed, request)
    assert [line["update"] for line in logged(tmp_path / "run")] == list(range(1, updates + 1))
    commands.train(changed)


def test_another_version_is_refused_or_accepted(workshop, begun, whole_run):
    line = json.loads((begun / "environment.jsonl").read_text().splitlines()[-1])
    (begun / "environment.jsonl").write_text(json.dumps(line | {"seppo": "0.0.1"}) + "\n")
    config = workshop.config(begun)
    with pytest.raises(ValueError, match=r"version: seppo 0\.0\.1 -> .*--accept_changes version"):
        commands.train(config)
    commands.train(config, TrainRequest(accept_changes=("version",)))
    assert_same_run(begun, whole_run)


def test_other_weights_at_the_same_path_are_refused_or_accepted(workshop, begun, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(workshop.base, base)
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    config = workshop.config(begun)
    config = replace(config, model=replace(config.model, base=str(base)))
    commands.train(config, TrainRequest(accept_changes=("model.base",)))
    shutil.rmtree(begun / "checkpoints" / "update-000006")
    save_file({name: -tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"was begun on other weights .*\(unet\).*--accept_changes model"):
        commands.train(config)
    commands.train(config, TrainRequest(accept_changes=("model",)))


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        (
            "progress.json",
            b'{"update": 4, "skipped": 0, "format": 99, "more": 1}',
            "has format 99; this version reads 1",
        ),
        ("progress.json", b'{"upd', "is damaged"),
        ("policy.safetensors", b"\0" * 100, "is damaged"),
        ("optimizer.pt", b"\0" * 100, "is damaged"),
        ("optimizer.pt", None, "is damaged"),
    ],
    ids=["another format", "progress", "weights", "optimiser", "missing"],
)
def test_a_checkpoint_that_cannot_be_read(workshop, begun, whole_run, file, content, text):
    path = begun / "checkpoints" / "update-000004" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=text) as caught:
        commands.train(workshop.config(begun))
    assert "update-000004" in str(caught.value)


def test_a_damaged_checkpoint_moved_away_costs_no_more_than_its_updates(workshop, whole_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    (run / "checkpoints" / "update-000006" / "policy.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="move it away, and the same command goes on from the one before it"):
        commands.train(workshop.config(run))
    shutil.rmtree(run / "checkpoints" / "update-000006")
    commands.train(workshop.config(run))
    assert_same_run(run, whole_run)


def test_a_pool_that_forgets_keeps_what_the_checkpoint_before_needs(workshop, tmp_path, monkeypatch):
    config = workshop.config(tmp_path / "run")
    config = replace(config, method=replace(config.method, pool_window=1), loop=replace(config.loop, iterations=3))
    commands.train(replace(config, run=str(tmp_path / "whole")))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        # at the first update of iteration 2, whose start forgets
        at(patch, Trainer, "_update", 7, die)
        commands.train(config)
    pool, checkpoints = tmp_path / "run" / "pool", tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["update-000004", "update-000006"]
    (checkpoints / "update-000006").rename(checkpoints / "update-000006.damaged")
    # of another course, as after a change of the config, for all that the run can tell
    shutil.copy(pool / "snapshot-0001.safetensors", pool / "snapshot-0002.safetensors")
    commands.train(config)
    assert logged(tmp_path / "run") == logged(tmp_path / "whole")
    a, b = final(tmp_path / "run"), final(tmp_path / "whole")
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_the_base_among_the_snapshots_is_made_anew(workshop, begun, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(begun, other)
    (other / "pool" / "snapshot-0000.safetensors").unlink()
    for run in (begun, other):
        config = workshop.config(run)
        config = replace(config, method=replace(config.method, reference="initial"))
        commands.train(config, TrainRequest(accept_changes=("method.reference",)))
    assert_same_run(other, begun)


def die() -> None:
    raise Killed


@pytest.mark.slow
def test_a_change_that_does_not_fit_the_weights_is_not_put_down(workshop, tmp_path, monkeypatch):
    config = workshop.config(tmp_path / "run", "lora")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        at(patch, Trainer, "_update", 4, die)
        commands.train(config)
    changed = replace(config, tune=replace(config.tune, rank=3))
    with pytest.raises(ValueError, match="LoRA rank"):
        commands.train(changed, TrainRequest(accept_changes=("tune.rank",)))
    # or the command that the run was begun with would be refused now
    commands.train(config)


def test_a_second_process_is_refused_while_the_first_loads_and_changes_nothing(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr("seppo_core.io.locks.PATIENCE", 0.0)
    config = workshop.config(tmp_path / "run")
    second = replace(config, method=replace(config.method, beta=7))

    def load(*given):
        with pytest.raises(ValueError, match=rf"is being trained in by another process \(process {os.getpid()} on "):
            commands.train(second)
        return commands.load(*given)

    commands.commands.train(config, load)
    assert "beta: 50" in (tmp_path / "run" / "config.yaml").read_text()
    assert holder_of(tmp_path / "run") is None
