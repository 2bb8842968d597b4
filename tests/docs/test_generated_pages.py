"""What stands in the documentation twice is the same in both places."""

import re
from pathlib import Path

from benchmarks.evaluation.paper.published import TABLES
from benchmarks.evaluation.paper.tables import markdown
from benchmarks.evaluation.protocols import PROTOCOLS
from seppo_core.run.folder import FREE_KEYS
from tests.docs.pages import text_of
from tools.write_reference import pages
from tools.write_troubleshooting import messages, parted


def test_messages_are_those_of_the_tested_table():
    """`python -m tools.write_troubleshooting` writes them."""
    told = messages(text_of(Path("docs/bad_inputs.md")))
    assert told in text_of(Path("docs/troubleshooting.md"))
    assert told.count("\n| `") == text_of(Path("docs/bad_inputs.md")).count("\n| ") - told.count("\n| Message")


def test_a_message_is_parted_behind_what_is_wrong():
    assert parted("a (b; c) is wrong; mend it; or not") == ("a (b; c) is wrong", "mend it; or not")
    assert parted('{"file": "0.png", "reason": "it is \\"new\\"; read it"}') == ('it is "new"', "read it")
    assert parted("nothing helps") == ("nothing helps", "")


def test_keys_that_may_change_are_those_of_the_code():
    listed = text_of(Path("docs/stop_and_resume.md")).partition("<!-- free:begin -->")[2].partition("<!-- free:end")[0]
    assert set(re.findall(r"`([\w.]+)`", listed)) == set(FREE_KEYS)


def test_the_published_tables_are_those_that_the_commands_print():
    text = text_of(Path("docs/paper.md"))
    for table in TABLES.values():
        rows = [line for line in markdown(table, []).splitlines() if line.startswith("|")]
        assert "\n".join(rows) in text


def test_every_protocol_is_told():
    assert [name for name in PROTOCOLS if f"`{name}`" not in text_of(Path("docs/evaluation.md"))] == []


def test_the_reference_is_that_of_the_code():
    stale = [path.name for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run python -m tools.write_reference"
