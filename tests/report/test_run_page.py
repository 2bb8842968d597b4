"""A run's page: made from its folder alone, with relative paths, anew as long as the run goes on."""

import json
import re

import pytest

from seppo_core.io.locks import FolderLock
from seppo_core.report.run_page import REFRESH, write_run_page
from seppo_core.run.status import read_status, status_rows
from tests.benchmarks.test_report import Tags
from tests.report.run_folder import PROMPTS, write_run


def paths(text: str) -> set[str]:
    """All files that a page refers to."""
    return {path for path in re.findall(r'(?:href="|url\()([^")]+)', text) if not path.startswith("#")}


def test_while_it_runs_and_after(tmp_path):
    run = write_run(tmp_path / "run")
    with FolderLock(run):
        text = write_run_page(run).read_text()
    assert f'<meta http-equiv="refresh" content="{REFRESH}"/>' in text
    assert "running, update 8 of 12, about 0:12 left" in text
    assert "refresh" not in write_run_page(run).read_text()
    assert ("page", str(run / "report.html")) in status_rows(read_status(run))
    (run / "report.html").unlink()
    assert "report.html is gone" in dict(status_rows(read_status(run)))["page"]
    assert paths(text) == {f"previews/update-{n:06d}.png" for n in (0, 4, 8)}
    assert all((run / path).is_file() for path in paths(text))
    assert "http" not in text.replace("http-equiv", "")
    assert [tag for tag, _ in Tags(text).found].count("b") == 0, "a prompt is text"
    words = "".join(Tags(text).words)
    assert f"{tmp_path.name}/run" in words, "a folder called run does not say which one"
    assert all(prompt in words for prompt in PROMPTS)
    for told in ("Score of the previews", "+0.0400", "8 · best", "Error on winners", "the base, on the same draws"):
        assert told in words
    assert not [path for path in run.iterdir() if path.name.endswith(".tmp")]


def test_what_is_wrong_is_on_top(tmp_path):
    run = write_run(tmp_path / "run", scored=False)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [line | {"loss": None} for line in lines]
    more = [lines[0] | {"update": n} for n in range(9, 13)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines + more))
    index = run / "previews" / "index.jsonl"
    index.write_text(index.read_text().replace("update-000004", "update-000009", 1))
    words = "".join(Tags(write_run_page(run).read_text()).words)
    assert "Look at this" in words and "loss not finite, 10 updates in a row skipped" in words
    assert "is damaged and left out" in words
    assert "Scores" not in words


def test_a_picture_that_is_gone_costs_its_tiles_alone(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "previews" / "update-000008.png").write_bytes(b"not a picture")
    text = write_run_page(run).read_text()
    # which holds the start's samples, too
    assert paths(text) == {"previews/update-000004.png"}
    for file in (run / "previews").glob("*.png"):
        file.unlink()
    assert "Samples" not in write_run_page(run).read_text()


def test_no_run_no_page(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        write_run_page(tmp_path / "run")
    assert not (tmp_path / "run").exists()
