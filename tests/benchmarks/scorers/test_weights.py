"""Where weights are looked for, that nothing is unpickled, and that what does not fit is named."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seppo_core.judging.weights import Source, fill, locate, locate_folder, read_tensors

SOURCE = Source("weights", "someone/model", (("model.safetensors",), ("a.bin", "b.txt")), 2_500_000_000, "MIT")


@pytest.fixture(autouse=True)
def no_offer(monkeypatch):
    monkeypatch.delenv("SEPPO_WEIGHTS_DIR", raising=False)


def test_a_file_a_folder_and_alternatives(tmp_path):
    file = tmp_path / "any_name.pt"
    file.touch()
    assert locate(SOURCE, file) == (file,)
    (tmp_path / "a.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"has none of model\.safetensors or a\.bin \+ b\.txt"):
        locate(SOURCE, tmp_path)
    (tmp_path / "b.txt").touch()
    assert locate(SOURCE, str(tmp_path)) == (tmp_path / "a.bin", tmp_path / "b.txt")
    (tmp_path / "model.safetensors").touch()
    assert locate(SOURCE, tmp_path) == (tmp_path / "model.safetensors",)


@pytest.mark.parametrize("place", ["someone/model", "model"])
def test_the_folder_that_the_environment_offers(tmp_path, monkeypatch, place):
    file = tmp_path / place / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setenv("SEPPO_WEIGHTS_DIR", str(tmp_path))
    assert locate(SOURCE) == locate(SOURCE, "someone/model") == (file,)
    # another repository that is asked for by name is not replaced
    with pytest.raises(FileNotFoundError, match="of other/thing"):
        locate(SOURCE, "other/thing")


def test_what_is_missing_is_told_with_size_licence_and_cure():
    expected = r"weights not found: .* of someone/model \(2\.50 GB, MIT\)\. Download it and give weights=FILE_OR_FOLDER"
    for download in (True, False):
        with pytest.raises(FileNotFoundError, match=expected):
            locate(SOURCE, download=download)
    for wrong in ("/nowhere/at/all", "./nowhere", "a_word", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="hub id"):
            locate(SOURCE, wrong)


def test_whole_folders(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        locate_folder(SOURCE, tmp_path)
    folder = tmp_path / "someone" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert locate_folder(SOURCE, folder) == folder
    for download in (True, False):
        with pytest.raises(FileNotFoundError, match="of someone/model"):
            locate_folder(SOURCE, download=download)
    monkeypatch.setenv("SEPPO_WEIGHTS_DIR", str(tmp_path))
    assert locate_folder(SOURCE) == folder


class Bomb:
    """Unpickling it would call `os.mkdir`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_nothing_is_unpickled(tmp_path):
    target = tmp_path / "made"
    torch.save({"weight": torch.zeros(1), "bomb": Bomb(target)}, tmp_path / "bomb.pt")
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(Bomb(target), protocol=2))
    for name in ("bomb.pt", "bare.bin"):
        with pytest.raises(ValueError, match=f"{name} holds more than tensors, or is damaged, and is not unpickled"):
            read_tensors(tmp_path / name)
    assert not target.exists()


def test_damaged_and_foreign_files_are_named(tmp_path):
    for name, content in (("cut.safetensors", b"\x10\x00"), ("cut.pt", b"PK\x03\x04rest"), ("empty.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_tensors(tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list and no state dict"):
        read_tensors(tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "numbers.pt")
    with pytest.raises(ValueError, match="holds a dict and no state dict of tensors"):
        read_tensors(tmp_path / "numbers.pt")


def test_both_containers_give_the_same_tensors(tmp_path):
    state = {"weight": torch.randn(2, 3), "bias": torch.randn(2)}
    save_file(state, tmp_path / "x.safetensors")
    torch.save(state, tmp_path / "x.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.pt")
    torch.save(state, tmp_path / "x.bin", _use_new_zipfile_serialization=False)
    for name in ("x.safetensors", "x.pth", "x.pt", "x.bin"):
        read = read_tensors(tmp_path / name)
        assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


def test_keys_that_do_not_fit_are_named():
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    with pytest.raises(ValueError) as error:
        fill(model, {"weight": torch.zeros(2, 2), "scale": torch.zeros(1)}, "file.pt", torch.float32)
    assert str(error.value) == (
        "file.pt does not fit Linear; keys 1 missing: bias; 1 unknown: scale; 1 of another shape: weight"
    )
    filled = fill(model, {"weight": torch.ones(2, 3, dtype=torch.half), "bias": torch.ones(2)}, "", torch.float64)
    assert filled(torch.ones(1, 3, dtype=torch.float64)).tolist() == [[4, 4]]
