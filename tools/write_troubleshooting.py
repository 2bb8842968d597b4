"""Writes the messages of docs/troubleshooting.md from the tested table docs/bad_inputs.md, by cause and cure.

python -m tools.write_troubleshooting
"""

import re
from pathlib import Path

from benchmarks.experiments.toy.publish import between

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "troubleshooting.md"
LEFT_OUT = "the item is left out and the rest goes on; mend the file, or leave it out"
SAID = "as the message says"


def messages(table: str) -> str:
    """A table of message, cause and cure for each group of docs/bad_inputs.md."""
    lines = []
    for line in table.splitlines():
        if line.startswith("## "):
            lines += ["", line, "", "| Message | Cause | Cure |", "|---|---|---|"]
        elif line.startswith("| ") and not line.startswith("| what is wrong"):
            cause, _, _, answer = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            message, cure = parted(answer)
            lines.append(f"| {shown(message)} | {cause} | {cure or (LEFT_OUT if answer.startswith('{') else SAID)} |")
    return "\n".join(lines).strip()


def parted(answer: str) -> tuple[str, str]:
    """What a message says is wrong, and the cure that it names behind the first semicolon outside brackets."""
    if (reason := re.fullmatch(r'\{"file": ".*?", "reason": "(.*)"\}', answer)) is not None:
        answer = reason[1].replace('\\"', '"')
    depth = 0
    for place, sign in enumerate(answer):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == ";" and depth == 0:
            return answer[:place].strip(), answer[place + 1 :].strip()
    return answer, ""


def shown(message: str) -> str:
    """As code, since a message is searched for word for word; a bar in a table is escaped already."""
    return f"``{message}``" if "`" in message else f"`{message}`"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(between(page, "messages", messages((DOCS / "bad_inputs.md").read_text(encoding="utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
