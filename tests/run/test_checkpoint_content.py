"""Checkpoints: what is not as it was written, or not finite, is neither read nor written."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from seppo_core.run.checkpoint import (
    EMA_FILE,
    OPTIMIZER_FILE,
    POLICY_FILE,
    Checkpoint,
    CheckpointFolder,
    Progress,
    load_checkpoint,
    load_policy,
    load_weights,
)


def checkpoint(update: int, value: float = 1.0, average: float = 0.5, moment: float = 0.1) -> Checkpoint:
    weights = {"a": torch.full((3,), float(update)), "b": torch.tensor([value, 2.0])}
    moments = {"state": {0: {"exp_avg": torch.tensor([moment])}}}
    return Checkpoint(Progress(update), weights, moments, {}, {}, {"b": torch.tensor([average])})


@pytest.fixture
def saved(tmp_path):
    folder = CheckpointFolder(tmp_path)
    return [folder.save(checkpoint(update)) for update in (1, 2)][-1]


@pytest.mark.parametrize("name", [POLICY_FILE, EMA_FILE, OPTIMIZER_FILE, "progress.json", "hashes.json"])
def test_a_bit_or_a_file_of_another_checkpoint_is_refused(saved, name):
    load_checkpoint(saved)
    path = saved / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    with pytest.raises(ValueError, match=f"{saved.name} is damaged .*move it away"):
        load_checkpoint(saved)
    other = saved.with_name("update-000001") / name
    if other.read_bytes() != whole:
        shutil.copy(other, path)
        with pytest.raises(ValueError, match=f"{saved.name} is damaged .*another content"):
            load_checkpoint(saved)


def test_a_checkpoint_of_an_earlier_version_has_no_hashes(saved):
    (saved / "hashes.json").unlink()
    assert load_checkpoint(saved).progress.update == 2


def test_a_lost_average_is_not_the_policy(saved):
    assert load_weights(saved).keys() == {"b"}
    (saved / EMA_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {EMA_FILE}.*--weights policy"):
        load_weights(saved)
    assert load_weights(saved, "policy").keys() == {"a", "b"}
    # of an earlier version: nothing says that there was one, but for the config
    (saved / "hashes.json").unlink()
    assert load_weights(saved).keys() == {"a", "b"}
    with pytest.raises(FileNotFoundError, match="--weights policy"):
        load_weights(saved, averaged=True)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("value", "'b' of the policy"),
        ("average", "'b' of the average"),
        ("moment", "'state.0.exp_avg' of the optimizer"),
    ],
)
def test_what_is_not_finite_is_not_saved(tmp_path, where, named):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint(1))
    with pytest.raises(FloatingPointError, match=f"after update 2 {named}.* is not finite"):
        folder.save(checkpoint(2, **{where: float("nan")}))
    assert [path.name for path in tmp_path.iterdir()] == ["update-000001"]


@pytest.mark.parametrize("name", [POLICY_FILE, EMA_FILE])
def test_what_is_not_finite_is_not_read(saved, name):
    # as an earlier version may have written it
    (saved / "hashes.json").unlink()
    tensors = load_file(saved / name)
    tensors["b"][0] = float("inf")
    save_file(tensors, saved / name)
    for read in (load_checkpoint, load_policy if name == POLICY_FILE else load_weights):
        with pytest.raises(ValueError, match=f"'b' in {name} is not finite"):
            read(saved)
