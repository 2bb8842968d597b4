"""`doctor` describes this machine, even a broken one, and prints nothing secret."""

import pytest
import torch

from seppo_core.cli import doctor
from seppo_core.cli.doctor import diagnose
from seppo_image.__main__ import main


def text_of(folder) -> str:
    return "\n".join(finding.text for finding in diagnose(folder))


def wrong(folder) -> str:
    return "\n".join(finding.bad for finding in diagnose(folder) if finding.bad)


def test_this_machine(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Versions:\n    seppo 0.")
    assert f"torch {torch.__version__}" in out and f"PyTorch version: {torch.__version__}" in out
    assert "libx264rgb" in out and "GB free" in out
    assert "Wrong:" not in out


def test_a_broken_library_is_described_and_the_rest_told(tmp_path, monkeypatch):
    def broken():
        raise ImportError("undefined symbol: cudaGetDriver")

    monkeypatch.setattr(doctor, "_torch", broken)
    assert "Torch: ImportError: undefined symbol: cudaGetDriver" in wrong(tmp_path)
    assert "Video:" in text_of(tmp_path)
    assert main(["doctor"]) == 1


def test_what_is_missing_or_too_old_is_named(tmp_path, monkeypatch):
    def version(name):
        if name in ("peft", "wandb"):
            raise doctor.PackageNotFoundError(name)
        return {"diffusers": "0.10.0"}.get(name, "99.0")

    monkeypatch.setattr(doctor, "version", version)
    assert "pip install 'peft>=" in wrong(tmp_path)
    assert "diffusers 0.10.0 is installed, not diffusers>=" in wrong(tmp_path)
    assert "wandb is not installed; needed for: log.wandb" in text_of(tmp_path)


def test_a_torchvision_that_does_not_fit(tmp_path, monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor, "import_module", broken)
    assert "torchvision does not fit this torch (RuntimeError)" in wrong(tmp_path)


def test_nothing_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("WANDB_API_KEY", "w_secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = text_of(tmp_path)
    assert "secret" not in text and "OMP_NUM_THREADS=1" in text


def test_little_room_is_noted_and_not_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LOW_DISK_BYTES", 1e18)
    assert "that is little" in text_of(tmp_path) and not wrong(tmp_path)


@pytest.mark.parametrize("argv", [["status"], ["status", "a", "b"], ["doctor", "x"], ["status", "--fast"]])
def test_arguments_that_do_not_fit(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith(f"seppo-image: {argv[0]} takes ")


@pytest.mark.parametrize("argv", [["status", "--help"], ["doctor", "-h"]])
def test_help(argv, capsys):
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith(f"usage: seppo-image {argv[0]}")
