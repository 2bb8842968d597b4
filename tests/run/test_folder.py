"""The folder of a run: its first files under every kill, what it takes for a run, and the checkpoints in it."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.training import LoopConfig
from seppo_core.io.locks import FolderLock
from seppo_core.run.checkpoint import Checkpoint, CheckpointFolder, Progress
from seppo_core.run.checkpoint_names import checkpoints_in, strays_in
from seppo_core.run.find_checkpoint import find_checkpoint
from seppo_core.run.folder import holds_run, open_run, record_model, with_draws
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.stable_diffusion import StableDiffusionModel
from tests.dying import deaths


@pytest.fixture
def config() -> ImageConfig:
    """A run of four iterations of two updates."""
    return ImageConfig(
        run="run",
        draws=1,
        model=StableDiffusionModel(base="a/base"),
        data=ImageData(source="s", cache="c"),
        method=SeppoConfig(reference="latest"),
        loop=LoopConfig(iterations=4, updates_per_iteration=2, batch_size=4),
    )


def begin(folder: Path, config: ImageConfig, accept: tuple[str, ...] = ()) -> None:
    """What a start does before any weights are loaded, and the note about them."""
    holds_run(folder)
    with FolderLock(folder):
        open_run(folder, with_draws(config, folder), "the winners", accept)()
        record_model(folder, "the denoiser", "the rest")


def contents(folder: Path) -> dict[str, str]:
    """All but who held the lock and when the run was started."""
    files = [path for path in folder.iterdir() if path.name not in ("lock", "environment.jsonl")]
    return {path.name: path.read_text() for path in files}


def test_a_kill_at_any_write_of_a_new_run_leaves_what_the_same_command_goes_on_from(tmp_path, config, monkeypatch):
    monkeypatch.setattr("seppo_core.run.folder.environment", lambda: {"seppo": "1"})
    numbers = itertools.count()
    whole = tmp_path / "whole"
    begin(whole, config)
    moments = 0
    for moment, folder in deaths(lambda: tmp_path / str(next(numbers)), lambda folder: begin(folder, config)):
        begin(folder, config)
        assert contents(folder) == contents(whole), moment
        assert '{"seppo": "1"}' in (folder / "environment.jsonl").read_text().splitlines(), moment
        moments += 1
    # three files of five operations each, the lock, the folder and a line of versions
    assert moments >= 20


@pytest.mark.parametrize("names", [["thesis.txt"], ["config.yaml"], ["winners.json"], [".notes.tmp"]])
def test_what_a_user_made_is_not_taken_for_a_start_that_was_broken_off(tmp_path, config, names):
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        begin(tmp_path, config)
    assert [path.name for path in tmp_path.iterdir()] == names


def save(folder: Path, *updates: int, **rule: int) -> CheckpointFolder:
    checkpoints = CheckpointFolder(folder / "checkpoints", **rule)
    for update in updates:
        checkpoints.save(Checkpoint(Progress(update), {"w": torch.zeros(1)}, {}, {}, {}))
    return checkpoints


def test_checkpoints_are_kept_by_rule_and_in_the_order_of_their_numbers(tmp_path):
    checkpoints = save(tmp_path, 999_998, 999_999, 1_000_000, 1_000_001, 1_000_002, keep=2, every=1_000_000)
    names = ["update-1000000", "update-1000001", "update-1000002"]
    assert [path.name for path in checkpoints.list()] == names
    assert checkpoints.latest().name == "update-1000002"
    assert [path.name for path in checkpoints.newest()] == names[1:]


def test_what_is_no_checkpoint_is_neither_read_nor_removed(tmp_path, config, capsys):
    begin(tmp_path, config)
    save(tmp_path, 2)
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "update-000008.bad").mkdir()
    (checkpoints / "update-000009").write_text("a file")
    (checkpoints / ".DS_Store").touch()
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "snapshot-0001.safetensors").touch()
    begin(tmp_path, config)
    assert "holds more than checkpoints; ignored: update-000008.bad, update-000009" in capsys.readouterr().out
    save(tmp_path, 4, keep=1)
    assert [path.name for path in checkpoints_in(checkpoints)] == ["update-000004"]
    assert strays_in(checkpoints) == ["update-000008.bad", "update-000009"]


def test_a_snapshot_that_will_be_drawn_is_missed_at_the_start(tmp_path, config):
    config = replace(config, method=SeppoConfig(reference="random"))
    begin(tmp_path, config)
    save(tmp_path, 2, 5, 6, keep=3)
    with pytest.raises(ValueError, match=r"after update-000006: iteration 3 draws .*snapshot-0002\.safe") as caught:
        begin(tmp_path, config)
    # where no snapshot is needed but the start, which is made anew
    assert "bring it back, move away the checkpoints after update-000002, from which it goes on" in str(caught.value)


def test_a_change_that_draws_what_was_never_saved_is_refused_and_not_put_down(tmp_path, config):
    first = replace(config, method=SeppoConfig(reference="initial"))
    begin(tmp_path, first)
    save(tmp_path, 6)
    text = (tmp_path / "config.yaml").read_text()
    changed = replace(config, method=SeppoConfig(reference="random"))
    with pytest.raises(ValueError, match=r"not saved it under its old config \(method\.reference: initial -> random"):
        begin(tmp_path, changed, ("method.reference",))
    assert (tmp_path / "config.yaml").read_text() == text
    # more iterations need nothing of before, and the newest is saved at each start
    longer = replace(first, loop=replace(first.loop, iterations=9))
    begin(tmp_path, longer, ("loop.iterations",))
    latest = replace(longer, method=SeppoConfig(reference="latest"))
    begin(tmp_path, latest, ("method.reference",))


@pytest.mark.parametrize("wanted", ["latest", "best"])
def test_a_run_without_a_checkpoint_says_so_and_names_its_start(tmp_path, wanted):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "snapshot-0000.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=r"nothing is trained yet; go on with train, .* snapshot-0000"):
        find_checkpoint(tmp_path, wanted)


def test_checkpoints_and_snapshots_are_found_by_number_name_or_path(tmp_path):
    save(tmp_path, 2, 4)
    (tmp_path / "pool").mkdir()
    snapshot = tmp_path / "pool" / "snapshot-0001.safetensors"
    snapshot.touch()
    newest = tmp_path / "checkpoints" / "update-000004"
    assert {find_checkpoint(tmp_path, wanted) for wanted in ("latest", "4", "update-000004", str(newest))} == {newest}
    assert {find_checkpoint(tmp_path, wanted) for wanted in ("snapshot-0001", str(snapshot))} == {snapshot}
    with pytest.raises(FileNotFoundError, match="holds update-000002, update-000004, snapshot-0001"):
        find_checkpoint(tmp_path, "7")
