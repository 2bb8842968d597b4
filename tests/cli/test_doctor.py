"""`doctor` describes this machine, a broken one too, and prints nothing secret."""

import sys

import pytest
import torch

from seppo_core.cli import doctor
from seppo_core.cli.doctor import Finding, diagnose, healthy, report
from seppo_image.__main__ import main


def values(sections) -> dict[str, str]:
    return {finding.name: finding.value for _, findings in sections for finding in findings}


def test_this_machine(tmp_path):
    sections = diagnose(tmp_path)
    assert [title for title, _ in sections] == [
        "Versions", "Machine", "Devices", "Attention", "Extras", "Video", "Disk", "Environment",
    ]  # fmt: skip
    found = values(sections)
    assert found["torch"] == torch.__version__
    assert found["seppo"].startswith("0.")
    assert "sdpa" in found["sdpa"]
    assert "libx264rgb" in found["encoders"]
    assert found["here"].endswith("GB free")
    assert healthy(sections)


def test_from_the_command_line(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Versions:\n    seppo") and "Attention:" in out
    assert "Nothing is wrong that can be seen from here." in out


def test_a_broken_library_is_described_and_the_rest_told(tmp_path, monkeypatch):
    def broken():
        raise ImportError("undefined symbol: cudaGetDriver")

    monkeypatch.setattr(doctor, "_devices", broken)
    sections = diagnose(tmp_path)
    text = report(sections)
    assert "Wrong: devices: ImportError: undefined symbol: cudaGetDriver" in text
    assert "Attention:" in text and not healthy(sections)
    assert main(["doctor"]) == 1


def test_what_is_missing_or_too_old_is_named(tmp_path, monkeypatch):
    def version(name):
        if name == "peft":
            raise doctor.PackageNotFoundError(name)
        return {"diffusers": "0.10.0"}.get(name, "99.0")

    monkeypatch.setattr(doctor, "version", version)
    text = report(diagnose(tmp_path))
    assert "Wrong: peft: pip install 'peft>=0.17'" in text
    assert "Wrong: diffusers: 0.10.0 is installed, diffusers>=0.35.2 is needed" in text


def test_missing_extras_come_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = values(diagnose(tmp_path))
    assert found["data"] == 'without datasets, webdataset: pip install "seppo[data]"'
    assert found["xformers"] == "not installed"


def test_a_torchvision_that_does_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: object() if name == "torchvision" else None)
    monkeypatch.setattr(doctor, "version", lambda name: "99.0")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert "Wrong: torchvision: does not fit this torch" in report(diagnose(tmp_path))


def test_nothing_secret_and_no_other_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("WANDB_API_KEY", "w_secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = report(diagnose(tmp_path))
    assert "secret" not in text
    assert "OMP_NUM_THREADS  1" in text or "OMP_NUM_THREADS" in text


def test_little_room_is_a_note_and_no_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "ROOM", 1e18)
    sections = diagnose(tmp_path)
    assert "Note: here:" in report(sections) and healthy(sections)


@pytest.mark.parametrize("argv", [["status"], ["status", "a", "b"], ["doctor", "x"], ["status", "--fast"]])
def test_arguments_that_do_not_fit(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith(f"seppo-image: {argv[0]} takes ")


@pytest.mark.parametrize("argv", [["status", "--help"], ["doctor", "-h"]])
def test_help(argv, capsys):
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith(f"usage: seppo-image {argv[0]}")


def test_report_lines_up():
    text = report([("A", [Finding("x", "1"), Finding("longer", "2", note="hm")]), ("B", [])])
    assert text.splitlines()[:3] == ["A:", "    x       1", "    longer  2"]
    assert "B" not in text
