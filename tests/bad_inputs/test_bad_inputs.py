"""The real command line answers every bad input with a line that names what is wrong. docs/bad_inputs.md shows all."""

import re

import pytest

from tests.bad_inputs.cases import CASES
from tests.bad_inputs.workspace import answer, build

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module")
def template(workshop, tmp_path_factory):
    room = tmp_path_factory.mktemp("template")
    build(room, workshop)
    return room


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_gets_an_answer(template, tmp_path, case):
    found = answer(case, template, tmp_path / "room")
    assert found.status == case.status, found.text
    assert re.search(case.says, found.text), found.text
    if case.reads is None:
        assert found.text.startswith(f"{case.program}: ")
        assert "Traceback" not in found.errors
