"""A stopped run goes on as if it had never been stopped: weights and metrics equal, bit for bit."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import seppo_core.run.checkpoint
import seppo_core.training.trainer
from seppo_core.run.checkpoint import CheckpointFolder, load_policy
from seppo_core.run.history import read_metrics
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from tests.dying import Killed, killed_before_update

MODES = [
    ("full", "seppo"),
    pytest.param("lora", "seppo", marks=pytest.mark.slow),
    pytest.param("full", "sft", marks=pytest.mark.slow),
]


def final(run: Path) -> dict[str, torch.Tensor]:
    return load_policy(CheckpointFolder(run / "checkpoints").latest())


def logged(run: Path) -> list[dict]:
    timings = ("seconds", "data_seconds", "samples_per_second")
    return [{key: value for key, value in line.items() if key not in timings} for line in read_metrics(run)]


def assert_same_run(run: Path, undisturbed: Path) -> None:
    a, b = final(run), final(undisturbed)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert logged(run) == logged(undisturbed)
    assert [line["update"] for line in logged(run)] == [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def undisturbed(workshop, tmp_path_factory):
    """Returns the folder of a finished run of a mode and a method, which is trained once."""
    folder = tmp_path_factory.mktemp("undisturbed")

    @cache
    def run_of(mode: str, method: str) -> Path:
        run = folder / f"{mode}-{method}"
        commands.train(workshop.config(run, mode, method))
        return run

    return run_of


@pytest.mark.parametrize(("mode", "method"), MODES)
def test_training_moves_the_weights_and_repeats_under_a_seed(workshop, undisturbed, tmp_path, mode, method):
    run = undisturbed(mode, method)
    commands.train(workshop.config(tmp_path / "again", mode, method))
    assert_same_run(tmp_path / "again", run)
    commands.train(workshop.config(tmp_path / "other", mode, method, seed=1))
    a, b = final(tmp_path / "other"), final(run)
    assert any(not torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("mode", "method"), MODES)
@pytest.mark.parametrize("cut", [1, 3, 4], ids=["before a checkpoint", "at the edge", "inside an iteration"])
def test_resume_after_a_kill_between_updates(workshop, undisturbed, tmp_path, mode, method, cut):
    config = workshop.config(tmp_path / "run", mode, method)
    with killed_before_update(cut):
        commands.train(config)
    commands.train(config)
    assert_same_run(tmp_path / "run", undisturbed(mode, method))


@pytest.mark.parametrize(
    ("victim", "moment"),
    [
        ("update-000003", "weights written"),
        ("update-000003", "before the rename"),
        *(
            pytest.param(victim, moment, marks=pytest.mark.slow)
            for victim in ("update-000002", "update-000006")
            for moment in ("weights written", "before the rename")
        ),
    ],
)
def test_resume_after_a_kill_while_a_checkpoint_is_written(
    workshop, undisturbed, tmp_path, monkeypatch, victim, moment
):
    """The half-written checkpoint is neither taken for a whole one nor left lying about."""
    config = workshop.config(tmp_path / "run")
    with monkeypatch.context() as patch:
        kill_while_writing(patch, victim, moment)
        with pytest.raises(Killed):
            commands.train(config)
    leftovers = list((tmp_path / "run" / "checkpoints").glob(".*.tmp"))
    assert [path.name.split(".")[1] for path in leftovers] == [victim]
    commands.train(config)
    assert_same_run(tmp_path / "run", undisturbed("full", "seppo"))
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def kill_while_writing(patch, victim: str, moment: str) -> None:
    """Stops inside `whole_folder`, its tidying up undone, as a kill would leave it."""
    if moment == "weights written":
        save = torch.save

        def dying_save(state, path):
            if victim in str(path):
                raise Killed
            save(state, path)

        patch.setattr(seppo_core.run.checkpoint.torch, "save", dying_save)
    else:
        replace_path = Path.replace

        def dying_replace(self, target):
            if Path(target).name == victim:
                raise Killed
            return replace_path(self, target)

        patch.setattr(Path, "replace", dying_replace)
    rmtree = seppo_core.run.checkpoint.shutil.rmtree

    def no_tidying(path, **options):
        if victim not in str(path):
            rmtree(path, **options)

    patch.setattr("seppo_core.io.atomic.shutil.rmtree", no_tidying)


def test_resume_after_a_kill_while_samples_are_generated(workshop, undisturbed, tmp_path, monkeypatch):
    from seppo_core.training.reference_samples import ReferenceSampler

    generate = ReferenceSampler.steps
    calls = []

    def dying(self, reference, iteration, positions):
        calls.append(positions)
        if len(calls) == 6:
            raise Killed
        return generate(self, reference, iteration, positions)

    config = workshop.config(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(ReferenceSampler, "steps", dying)
        with pytest.raises(Killed):
            commands.train(config)
    kept = calls[:5]
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(ReferenceSampler, "steps", lambda self, r, i, p: calls.append(p) or generate(self, r, i, p))
        commands.train(config)
    assert not {p.start for p in calls} & {p.start for p in kept}, "samples that were there are not generated again"
    assert_same_run(tmp_path / "run", undisturbed("full", "seppo"))


def test_a_finished_run_is_left_alone(workshop, undisturbed):
    run = undisturbed("full", "seppo")
    before = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")}
    commands.train(workshop.config(run))
    assert {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")} == before
    assert len(logged(run)) == 6


def test_another_config_in_the_same_folder_is_refused(workshop, undisturbed):
    run = undisturbed("full", "seppo")
    config = workshop.config(run)
    with pytest.raises(ValueError, match=r"method.beta: 50.* -> 7.*name another folder as `run`"):
        commands.train(replace(config, method=replace(config.method, beta=7)))
    # what changes no weight may change
    commands.train(replace(config, loop=replace(config.loop, keep_checkpoints=5)))


def test_a_run_without_a_checkpoint_takes_a_corrected_config(workshop, tmp_path, monkeypatch):
    config = workshop.config(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            commands.train(config)
    corrected = replace(config, method=replace(config.method, beta=7))
    commands.train(corrected)
    commands.train(replace(corrected, run=str(tmp_path / "fresh")))
    assert_same_run(tmp_path / "run", tmp_path / "fresh")


def test_after_running_out_of_memory_the_batches_in_hand_may_shrink(workshop, undisturbed, tmp_path):
    config = workshop.config(tmp_path / "run")
    with killed_before_update(4):
        commands.train(config)
    smaller = replace(
        config,
        loop=replace(config.loop, micro_batch_size=1),
        reference_samples=replace(config.reference_samples, batch_size=2),
    )
    commands.train(smaller)
    assert [line["update"] for line in logged(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    a, b = final(tmp_path / "run"), final(undisturbed("full", "seppo"))
    assert all(torch.allclose(a[name], b[name], atol=1e-3) for name in a)


def test_samples_of_earlier_iterations_are_not_left_behind(workshop, undisturbed, tmp_path):
    run = undisturbed("full", "seppo")
    assert not list((run / "buffer").iterdir())
    (run / "buffer" / "iteration-0000-by-3").mkdir()
    commands.train(workshop.config(run))
    assert not list((run / "buffer").iterdir())


def test_full_training_starts_from_the_base_s_own_digits(workshop, tmp_path):
    """A base loaded in half precision and raised to float32 afterwards would be another model."""
    config = workshop.config(tmp_path)
    half = replace(config, model=replace(config.model, dtype="float16"))
    exact, loaded = commands.load(config), commands.load(half)
    for a, b in zip(exact.denoiser.parameters(), loaded.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)
    lora = replace(half, tune=replace(half.tune, mode="lora"))
    assert next(commands.load(lora).denoiser.parameters()).dtype == torch.float16


def test_a_folder_that_is_no_run_is_not_written_into(workshop, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        commands.train(workshop.config(tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_environment_of_every_start_is_kept(undisturbed):
    lines = (undisturbed("full", "seppo") / "environment.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["torch"] == torch.__version__
