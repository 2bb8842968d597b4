"""A run by its folder or its config, and a config by its file or its run."""

from pathlib import Path

import pytest

from benchmarks.evaluation.models import ModelSpec, parse_model
from seppo_core.cli.compare import Named, read_name
from seppo_core.run.names import config_of, run_of
from seppo_image.__main__ import main
from tests.report.run_folder import write_run


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run's folder, as it is called from the current one, in which `mine.yaml` is its config."""
    monkeypatch.chdir(tmp_path)
    folder = write_run(Path("runs/one"))
    Path("mine.yaml").write_text((folder / "config.yaml").read_text())
    return folder


def test_a_config_calls_its_run(run, capsys):
    assert run_of("mine.yaml") == run_of("runs/one") == run
    assert main(["status", "mine.yaml"]) == 0
    told = capsys.readouterr().out
    assert main(["status", str(run)]) == 0
    assert capsys.readouterr().out == told
    assert read_name("mine.yaml") == Named(run, None) and read_name("mine.yaml:best") == Named(run, "best")
    assert parse_model("a=mine.yaml") == ModelSpec("a", "runs/one")
    assert parse_model("a=mine.yaml@8") == ModelSpec("a", "runs/one", "8")


def test_a_run_that_moved_is_where_its_config_lies(run):
    (run / "winners.json").write_text("{}")
    run.rename("elsewhere")
    assert run_of("elsewhere/config.yaml") == Path("elsewhere")
    assert config_of("elsewhere") == ("elsewhere/config.yaml", "elsewhere")
    assert config_of("mine.yaml") == ("mine.yaml", None)


def test_what_calls_no_run_is_one_line(run, capsys):
    Path("other.yaml").write_text("run: runs/other\n")
    Path("none.yaml").write_text("a: b\n")
    for name, told in [
        ("other.yaml", "other.yaml names the run runs/other, which has not begun; `train other.yaml` begins it\n"),
        ("none.yaml", "none.yaml names no run (it has no key `run`); name the folder of one\n"),
    ]:
        for command in (["status", name], ["compare", name, "mine.yaml"]):
            assert main(command) == 2
            assert capsys.readouterr().err == f"seppo-image: {told}"
