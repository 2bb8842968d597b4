"""Tables of text, as metadata.jsonl and metadata.csv: an index of where rows begin, parsed when they are read.

Tables in UTF-16, and JSON that is one list or one object, are held in memory, row by row as UTF-8.
"""

import csv
import io
import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np

from seppo_core.config.messages import first_line
from seppo_core.data.problems import Problems
from seppo_core.data.records import FixedFile
from seppo_core.data.source import BadItem
from seppo_core.data.tables import Row, Table

DELIMITERS = (",", ";", "\t", "|")
"""Marks between columns; the first of those that make most columns of a header is taken."""
_FILE = re.compile(r"[/\\]|\.\w{2,5}$")
"""What tells a file's name from any other key."""


class TextTable(Table):
    """A table of text, in 16 bytes of memory per row. Raises ValueError if the table as a whole cannot be read."""

    holds_bytes = False

    def __init__(self, path: Path, content: bytes | None = None):
        """`content` takes the place of the file's."""
        self.path, self.files, self._file, self._content = path, (path,), FixedFile.of(path), content
        self.columns, self.problems = (), Problems()
        starts, lines = array("q"), array("q")
        for start, line in self._find():
            starts.append(start)
            lines.append(line)
        if not starts:
            raise ValueError(f"{path} has no rows")
        size = self._file.size if content is None else len(content)
        self._starts = np.append(np.frombuffer(starts, dtype=np.int64), size)
        self._lines = np.frombuffer(lines, dtype=np.int64)

    def _find(self) -> Iterator[tuple[int, int]]:
        """Sets `columns`; yields the byte and the line (from 1) at which each row begins."""
        raise NotImplementedError

    def _parse(self, text: bytes, line: int) -> Row:
        raise NotImplementedError

    def _open(self) -> BinaryIO:
        return self.path.open("rb") if self._content is None else io.BytesIO(self._content)

    def __len__(self) -> int:
        return len(self._lines)

    def name(self, position: int) -> str:
        return f"line {self._lines[position]}"

    def row(self, position: int) -> Row:
        start, end = int(self._starts[position]), int(self._starts[position + 1])
        if self._content is None:
            text = self._file.read(start, end - start)
        else:
            self._file.check()
            text = self._content[start:end]
        return self._parse(text, int(self._lines[position]))

    def scan(self) -> Iterator[Row | BadItem]:
        with self._open() as file:
            for position in range(len(self)):
                start, end = int(self._starts[position]), int(self._starts[position + 1])
                file.seek(start)
                try:
                    yield self._parse(file.read(end - start), int(self._lines[position]))
                except BadItem as bad:
                    yield bad

    def fingerprint(self) -> str:
        return f"{self._file.size}"


class JsonLines(TextTable):
    """One JSON object a line. A line that is none is a bad row."""

    def _find(self) -> Iterator[tuple[int, int]]:
        seen: dict[str, None] = {}
        with self._open() as file:
            start = 0
            for line, text in enumerate(file, start=1):
                if text.strip():
                    try:
                        seen |= dict.fromkeys(self._parse(text, line))
                    except BadItem:
                        pass
                    yield start, line
                start += len(text)
        self.columns = tuple(seen)

    def _parse(self, text: bytes, line: int) -> Row:
        try:
            fields = json.loads(text.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise BadItem(f"line {line}", f"not a line of JSON: {first_line(error)}") from None
        if not isinstance(fields, dict):
            raise BadItem(f"line {line}", 'not a JSON object such as {"file_name": …, "caption": …}')
        return fields


class CsvTable(TextTable):
    """Values with a header, separated by commas, or by what makes columns of the header: semicolons, tabs or bars.

    ValueError for quotes that do not close; a row that is no UTF-8 is bad.
    """

    _dialect: dict[str, object] = MappingProxyType({})

    def _find(self) -> Iterator[tuple[int, int]]:
        place = [0, 0]

        def lines(file) -> Iterator[str]:
            for text in file:
                place[0] += len(text)
                place[1] += 1
                # the row with what is no text is found again, and refused, when it is parsed
                yield text.decode("utf-8-sig" if place[1] == 1 else "utf-8", "surrogateescape")

        with self._open() as file:
            self._dialect = _dialect(file.readline())
            file.seek(0)
            reader = csv.reader(lines(file), strict=True, **self._dialect)
            try:
                self.columns = tuple(name.strip() for name in next(reader, []))
                # the reader takes no line before it needs it
                start = place[0]
                for cells in reader:
                    if cells:
                        yield start, place[1]
                    start = place[0]
            except csv.Error as error:
                raise ValueError(f"{self.path}, line {place[1]}: {error}") from error

    def _parse(self, text: bytes, line: int) -> Row:
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            raise BadItem(f"line {line}", f"not UTF-8 text ({first_line(error)}); save the table as UTF-8") from error
        cells = next(csv.reader(io.StringIO(decoded, newline="\n"), strict=True, **self._dialect))
        if len(cells) != len(self.columns):
            problem = f"line {line} has {len(cells)} columns, the header {len(self.columns)}; quote texts with commas"
            raise BadItem(next((cell for cell in cells if cell), f"line {line}"), problem)
        return dict(zip(self.columns, cells, strict=True))


def text_table(path: Path) -> TextTable:
    """The table in `path`, by its suffix and its content. Raises ValueError if it cannot be read as a whole."""
    content = _as_utf8(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        return CsvTable(path, content)
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        begin = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if begin == b"[" or (begin == b"{" and path.suffix.lower() == ".json"):
        rows = _rows_of_json(path.read_bytes() if content is None else content)
        content = content if rows is None else b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return JsonLines(path, content)


def _as_utf8(path: Path) -> bytes | None:
    """A table in UTF-16, as Excel and PowerShell write them, as UTF-8; None if it is no UTF-16."""
    with path.open("rb") as file:
        begin = file.read(4)
    order = "utf-16" if begin[:2] in (b"\xff\xfe", b"\xfe\xff") else None
    if order is None and len(begin) == 4 and all(begin[0::2]) and not any(begin[1::2]):
        order = "utf-16-le"
    if order is None:
        return None
    # half characters become bytes that are no UTF-8, so that their row alone is refused
    return path.read_bytes().decode(order, "surrogatepass").encode("utf-8", "surrogatepass")


def _rows_of_json(content: bytes) -> list | None:
    """The rows of JSON that is one list, or one object from a file's name to its caption or fields, as kohya has it;
    None if it is neither, but perhaps lines."""
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        if not found or not all(isinstance(value, str | list | dict) for value in found.values()):
            return None
        if not all(_FILE.search(name) for name in found):
            return None
        return [
            {"file_name": name} | (value if isinstance(value, dict) else {"caption": value})
            for name, value in found.items()
        ]
    return found if isinstance(found, list) else None


def _dialect(header: bytes) -> dict[str, object]:
    """How a header separates its columns, and whether a blank follows."""
    text = header.decode("utf-8-sig", "replace").strip()
    counts = {mark: len(next(csv.reader([text], delimiter=mark), [])) for mark in DELIMITERS}
    mark = max(DELIMITERS, key=counts.__getitem__)
    # a quote behind the blank belongs to the values then
    return {"delimiter": mark, "skipinitialspace": f"{mark} " in text}
