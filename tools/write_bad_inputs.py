"""Writes docs/bad_inputs.md: what the command line answers to each case of tests/bad_inputs.

python -m tools.write_bad_inputs
"""

import re
import tempfile
from pathlib import Path

from tests.bad_inputs.cases import CASES
from tests.bad_inputs.workspace import Answer, Case, answer, build
from tests.workshop import make_workshop

TABLE = Path(__file__).parents[1] / "docs" / "bad_inputs.md"
HEAD = """\
# What bad inputs get

`python -m tools.write_bad_inputs` writes this table: it gives each of these inputs to the real command line, as the
tests in `tests/bad_inputs` do. A mistake, or a disk that refuses, gets one line and exit status 2; nothing that was
whole before is touched. SIGTERM ends the command with status 143 and SIGINT with 130, after a checkpoint; a second
signal, half a second later or more, ends it at once. Status 0 means that the item is left out, with the reason in
`rejected.jsonl`, and that the rest goes on. Any other error keeps its traceback and has status 1.
"""


def normal(text: str, room: Path) -> str:
    """`text` without what changes from one machine or run to the next."""
    text = text.replace(f"{room}/", "").replace(str(room), ".")
    text = re.sub(r"process \d+ on \S+ since [\d-]+ [\d:]+", "process N on HOST since TIME", text)
    text = re.sub(r"process \d+ on [^\s)]+\)", "process N on HOST)", text)
    text = re.sub(r"\b(?=[0-9]*[a-f])[0-9a-f]{8,}\b", "HASH", text)
    text = re.sub(r"\(\d+ MB are free\)", "(N MB are free)", text)
    text = re.sub(r"seppo \d+\.\d+\.\S+ -> \d+\.\d+\.[^)\s]+", "seppo OLD -> NEW", text)
    return " ".join(text.split()).removeprefix("seppo-image: ").removeprefix("quality: ").replace("|", "\\|")


def row(case: Case, found: Answer, room: Path) -> str:
    program = "" if case.program == "seppo-image" else f"{case.program} "
    command = " ".join(found.argv).replace("\0", "\\x00")
    return f"| {case.what} | `{program}{command}` | {found.status} | {normal(found.text, room)} |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "template").mkdir()
        build(root / "template", make_workshop(root / "workshop"))
        lines = [HEAD]
        for number, case in enumerate(CASES):
            if number == 0 or case.group != CASES[number - 1].group:
                lines += [] if number == 0 else [""]
                lines += [f"## {case.group.capitalize()}", ""]
                lines += ["| what is wrong | command | exit | answer |", "|---|---|---|---|"]
            room = root / str(number)
            lines.append(row(case, answer(case, root / "template", room), room))
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
