"""`compare`: previews of the same prompts and seeds side by side, in a folder that can be taken elsewhere."""

import shutil

import pytest
import yaml

from seppo_core.run.previews import read_previews
from seppo_image.__main__ import main
from tests.benchmarks.test_report import Tags
from tests.report.run_folder import write_run
from tests.report.test_run_page import paths


@pytest.fixture
def runs(tmp_path):
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other", updates=4)
    values = yaml.safe_load((other / "config.yaml").read_text())
    values["method"]["beta"] = 7
    (other / "config.yaml").write_text(yaml.safe_dump(values))
    return one, other


def test_previews_are_enough(runs, tmp_path, capsys):
    one, other = map(str, runs)
    (runs[0] / "checkpoints" / "update-000008").mkdir(parents=True)
    assert main(["compare", f"{one}:best", other]) == 0
    page = tmp_path / "compare-one-best-other" / "index.html"
    assert str(page) in capsys.readouterr().out
    # the page and all that it shows go with the folder
    shutil.move(page.parent, tmp_path / "elsewhere")
    for run in runs:
        shutil.rmtree(run)
    text = (tmp_path / "elsewhere" / "index.html").read_text()
    assert paths(text) == {"0-update-000008.png", "1-update-000004.png"}
    assert all((tmp_path / "elsewhere" / path).is_file() for path in paths(text))
    words = "".join(Tags(text).words)
    assert "one, best, update 8 and other, update 4" in words
    assert "method.beta" in words and "data.cache" not in words
    assert "What was chosen by these very scores, as the best, is favoured here." in words


def test_differences_are_those_of_the_records(runs, tmp_path):
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    first, last = (read_previews(run).all[-1] for run in runs)
    found = last.gain(first)
    words = "".join(Tags((tmp_path / "out" / "index.html").read_text()).words)
    assert f"{found.value:+.4f}" in words and f"{found.low:+.4f} to {found.high:+.4f}" in words
    assert found.high < 0 and "other, update 4 scores below one, update 8." in words


def test_updates_of_one_run(runs, tmp_path):
    one = str(runs[0])
    assert main(["compare", f"{one}:base", one, "--out", str(tmp_path / "out")]) == 0
    words = "".join(Tags((tmp_path / "out" / "index.html").read_text()).words)
    assert "one, start and one, update 8" in words and "Keys of the configs" not in words


def test_a_folder_of_its_own_is_written_again_and_a_page_of_the_user_s_is_not(runs, tmp_path, capsys):
    names, out, mine = [str(run) for run in runs], tmp_path / "out", tmp_path / "site"
    # what a comparison leaves that was broken off as it drew
    (out / "samples" / "0-one").mkdir(parents=True)
    (out / "0.png").touch()
    for _ in range(2):
        assert main(["compare", *names, "--out", str(out)]) == 0
    mine.mkdir()
    (mine / "index.html").write_text("<title>my site</title>")
    # a run has a folder of samples too
    (runs[0] / "samples" / "update-000008").mkdir(parents=True)
    for folder in (mine, runs[0]):
        assert main(["compare", *names, "--out", str(folder)]) == 2
        assert f"{folder} holds other files; name a new or an empty folder with --out" in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == ["index.html"] and not (runs[0] / "index.html").exists()
    assert (mine / "index.html").read_text() == "<title>my site</title>"


def test_names_and_folders_that_are_wrong_are_told(runs, tmp_path, capsys):
    one, other = map(str, runs)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for words, told in (
        ([one], "takes 2 to 6 runs or checkpoints, not 1"),
        ([one, other + "s"], f"{other}s is no run; did you mean"),
        ([one, f"{other}:77"], "holds no checkpoint"),
        ([one, f"{other}:best"], "holds no checkpoint yet"),
        ([one, other, "--out", str(tmp_path / "mine")], "holds other files"),
        ([one, other, "--promts", "x"], "did you mean --prompts?"),
        ([one, other, "--prompt_file", "missing.txt"], "missing.txt does not exist"),
        ([one, other, "--steps", "0"], "--steps 0 must be at least 1"),
    ):
        assert main(["compare", *words]) == 2, words
        assert told in capsys.readouterr().err
