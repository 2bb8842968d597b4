"""What a command made of a damaged file, told from how it ended, what it printed, and what it left."""

import re
from typing import NamedTuple

from benchmarks.experiments.corruption.room import Answer

EQUAL = "equal"
TOLD = "told"
REFUSED = "refused"
UNSEEN_BY_VERIFY = "unseen"
TRACEBACK = "TRACEBACK"
SILENT = "SILENT"
OUTCOMES = {
    EQUAL: "the same result as without the damage",
    TOLD: "gone on or made anew, with a word",
    REFUSED: "refused in one line",
    UNSEEN_BY_VERIFY: "verify reads no such file, or it is whole again",
    TRACEBACK: "an error that is not explained",
    SILENT: "another result without a word",
}
WORDS = re.compile(
    r"damage|anew|again|missing|is gone|lost|not as it was|another content|cannot be read|otherwise|changed|not there"
)


class Outcome(NamedTuple):
    """One file, damaged in one way, and one command."""

    file: str
    damage: str
    command: str
    kind: str
    said: str
    """The line that says what happened; for a silent one the names of the results that differ."""


def judge(
    file: str, damage: str, command: str, answer: Answer, found: dict[str, str], usual: tuple[Answer, dict[str, str]]
) -> Outcome:
    """Compares a command's answer and results with those without damage."""
    before, results = usual
    ours = [line for line in answer.lines if line.startswith("seppo-image: ")]
    if answer.status == 2 and ours and "Traceback" not in "\n".join(answer.lines):
        return Outcome(file, damage, command, REFUSED, ours[-1])
    if answer.status != 0:
        return Outcome(file, damage, command, TRACEBACK, f"status {answer.status}: " + " / ".join(answer.lines[-8:]))
    known = {_plain(line) for line in before.lines}
    words = [line for line in answer.lines if _plain(line) not in known and _is_word(line, file)]
    if command == "verify":
        return Outcome(file, damage, command, TOLD if words else UNSEEN_BY_VERIFY, words[0] if words else "")
    if words:
        return Outcome(file, damage, command, TOLD, words[0])
    differing = sorted(name for name in results.keys() | found.keys() if results.get(name) != found.get(name))
    return Outcome(file, damage, command, SILENT if differing else EQUAL, ", ".join(differing))


def _is_word(line: str, file: str) -> bool:
    return "%|" not in line and (WORDS.search(line) is not None or file.split("/")[-1] in line)


def _plain(line: str) -> str:
    return re.sub(r"[\d.]+", "#", line)
