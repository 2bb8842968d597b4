"""Folders in which each picture or clip has its caption in a text file of its name, as most trainers keep them."""

import json
import re
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath

from seppo_core.data.problems import Problems
from seppo_core.data.retry import retry_io
from seppo_core.data.source import BadItem, SourceLost
from seppo_core.data.tables import Row, Table
from seppo_core.data.walk import TEXTS, pairs, walk_files

MAX_TEXT = 1024**2
"""Bytes of a caption's file."""
_REPEATED = re.compile(r"\d+_.+")
"""kohya's folders: the number says how often an epoch takes their pictures."""


class CaptionFiles(Table):
    """A row for each picture or clip under `root`, in the order of their names. Several lines are several captions."""

    holds_bytes = False
    columns = ("file_name", "caption")

    def __init__(self, root: Path):
        self.root, self.problems = root, Problems()
        rows, repeated = [], 0
        for folder, names in walk_files(root):
            found = [(_join(folder, name), text and _join(folder, text)) for name, text in pairs(names)]
            repeated += bool(found and _REPEATED.fullmatch(PurePosixPath(folder).name))
            rows += found
        self._rows = sorted(rows)
        if repeated:
            self.problems.remarks.append(
                f"{root}: folders named as kohya's, with a number of repeats: {repeated}; each picture counts once"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, position: int) -> str:
        return self._rows[position][0]

    def row(self, position: int) -> Row:
        name, text = self._rows[position]
        if text is None:
            raise BadItem(name, f"no caption: no {PurePosixPath(name).stem}{TEXTS[0]} or {TEXTS[1]} beside it")
        return {"file_name": name, "caption": captions_in(self.root / text, name)}

    def fingerprint(self) -> str:
        return sha256(json.dumps(self._rows).encode()).hexdigest()


def captions_in(path: Path, name: str) -> str | list[str]:
    """The caption in a text file, or its captions, one a line. Raises BadItem, called `name`, if it is no such text."""
    try:
        size = path.stat().st_size
        if size > MAX_TEXT:
            raise BadItem(name, f"{path.name} has {size:,} bytes, over the limit of {MAX_TEXT:,}")
        content = retry_io(partial(path.read_bytes), name)
    except SourceLost:
        raise
    except OSError as error:
        raise BadItem(name, f"{path.name} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadItem(name, f"{path.name} is not UTF-8 text; save it as UTF-8") from error
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return lines if len(lines) > 1 else "".join(lines)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
