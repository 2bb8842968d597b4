"""Tables of text, as metadata.jsonl and metadata.csv: an index of where rows begin, parsed when they are read."""

import csv
import io
import json
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from seppo_core.data.problems import Problems
from seppo_core.data.records import FixedFile
from seppo_core.data.source import BadItem, first_line
from seppo_core.data.tables import Row, Table


class TextTable(Table):
    """A table of text, in 16 bytes of memory per row. Raises ValueError if the table as a whole cannot be read."""

    holds_bytes = False

    def __init__(self, path: Path):
        self.path, self.files, self._file = path, (path,), FixedFile.of(path)
        self.columns, self.problems = (), Problems()
        starts, lines = array("q"), array("q")
        for start, line in self._find():
            starts.append(start)
            lines.append(line)
        if not starts:
            raise ValueError(f"{path} has no rows")
        self._starts = np.append(np.frombuffer(starts, dtype=np.int64), self._file.size)
        self._lines = np.frombuffer(lines, dtype=np.int64)

    def _find(self) -> Iterator[tuple[int, int]]:
        """Sets `columns`; yields the byte and the line (from 1) at which each row begins."""
        raise NotImplementedError

    def _parse(self, text: bytes, line: int) -> Row:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._lines)

    def name(self, position: int) -> str:
        return f"line {self._lines[position]}"

    def row(self, position: int) -> Row:
        start, end = int(self._starts[position]), int(self._starts[position + 1])
        return self._parse(self._file.read(start, end - start), int(self._lines[position]))

    def scan(self) -> Iterator[Row | BadItem]:
        with self.path.open("rb") as file:
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
        with self.path.open("rb") as file:
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
    """Comma-separated values with a header. ValueError for quotes that do not close; a row that is no UTF-8 is bad."""

    def _find(self) -> Iterator[tuple[int, int]]:
        place = [0, 0]

        def lines(file) -> Iterator[str]:
            for text in file:
                place[0] += len(text)
                place[1] += 1
                # the row with what is no text is found again, and refused, when it is parsed
                yield text.decode("utf-8-sig" if place[1] == 1 else "utf-8", "surrogateescape")

        with self.path.open("rb") as file:
            reader = csv.reader(lines(file), strict=True)
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
        cells = next(csv.reader(io.StringIO(decoded, newline="\n"), strict=True))
        if len(cells) != len(self.columns):
            problem = f"line {line} has {len(cells)} columns, the header {len(self.columns)}; quote texts with commas"
            raise BadItem(next((cell for cell in cells if cell), f"line {line}"), problem)
        return dict(zip(self.columns, cells, strict=True))
