"""A text file of prompts as a table of captions."""

import json
from hashlib import sha256
from pathlib import Path

from seppo_core.data.problems import Problems
from seppo_core.data.records import FixedFile
from seppo_core.data.tables import Row, Table


class PromptLines(Table):
    """The lines of a text file that are not empty, as captions. ValueError if it holds none, or is no text."""

    holds_bytes = False
    columns = ("caption",)

    def __init__(self, path: Path):
        self.path, self.files, self.problems, self._file = path, (path,), Problems(), FixedFile.of(path)
        try:
            # split at newlines alone: a prompt may hold other separators
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"data.source={path} is not a text in UTF-8 ({error.reason}); save it as one") from error
        self._lines = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
        if not self._lines:
            raise ValueError(f"data.source={path} holds no prompt; write one a line")

    def __len__(self) -> int:
        return len(self._lines)

    def row(self, position: int) -> Row:
        return {"caption": self._lines[position][1]}

    def name(self, position: int) -> str:
        return f"{self.path.name} line {self._lines[position][0]}"

    def fingerprint(self) -> str:
        return sha256(json.dumps([line for _, line in self._lines]).encode()).hexdigest()
