"""What each bad input gets, through the real command line; the answers are the table in docs/bad_inputs.md.

SEPPO_WRITE=1 writes the table anew, after a look at what changed in it.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

from seppo_image.__main__ import main
from tests.bad_inputs.cases import CASES
from tests.bad_inputs.room import Case, build, furnish, normal

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
TABLE = Path(__file__).parents[2] / "docs" / "bad_inputs.md"
HEAD = """\
# What bad inputs get

Written by `tests/bad_inputs` (`SEPPO_WRITE=1 python -m pytest tests/bad_inputs -m slow`), which gives each of
these to the real command line and compares the answer with this table. A mistake, or a disk that refuses, is one line
and exit status 2; nothing that was whole before is touched. SIGTERM leaves with 143 and SIGINT with 130, saved; a
second signal, half a second later or more, leaves at once. Status 0 stands where the item is left out, with the reason
in `rejected.jsonl`, and the rest goes on. Any other error keeps its traceback and status 1.

"""


@pytest.fixture(scope="module")
def template(workshop, tmp_path_factory):
    room = tmp_path_factory.mktemp("template")
    before = Path.cwd()
    os.chdir(room)
    try:
        build(room, workshop)
    finally:
        os.chdir(before)
    return room


@pytest.fixture(scope="module")
def found():
    """Answers so far, by case."""
    return {}


def name(case: Case) -> str:
    return f"{case.group}: {case.what}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_it_gets_an_answer(template, tmp_path, monkeypatch, capsys, found, case):
    room = tmp_path / "room"
    furnish(room, template, case.needs)
    monkeypatch.chdir(room)
    argv = case.spoil()
    capsys.readouterr()
    with case.around():
        status = main(argv)
    error = capsys.readouterr().err
    answer = case.reads() if case.reads else error.strip().splitlines()[-1]
    answer = normal(answer, room)
    assert status == case.status, answer
    assert re.search(case.says, answer), answer
    if case.reads is None:
        assert answer.startswith("seppo-image: ")
        assert "Traceback" not in error
    found[name(case)] = (argv, status, answer.removeprefix("seppo-image: "))
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(room)


def test_the_table_says_so(found):
    """All of the cases, with the answers of this very run."""
    if len(found) < len(CASES):
        pytest.skip("only some of the cases were run")
    text = HEAD + table(found)
    if os.environ.get("SEPPO_WRITE") == "1":
        TABLE.write_text(text, encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == text


def table(found: dict) -> str:
    lines, group = [], None
    for case in CASES:
        argv, status, answer = found[name(case)]
        if case.group != group:
            group = case.group
            lines += [""] if lines else []
            lines += [
                f"## {group.capitalize()}",
                "",
                "| what is wrong | command | exit | answer |",
                "|---|---|---|---|",
            ]
        cell = answer.replace("|", "\\|")
        lines.append(f"| {case.what} | `{' '.join(argv)}` | {status} | {cell} |")
    return "\n".join(lines) + "\n"


def test_there_are_enough():
    assert len(CASES) >= 25
    assert {case.group for case in CASES} == {"data", "config", "run", "disk", "signals"}
    assert len({name(case) for case in CASES}) == len(CASES)
