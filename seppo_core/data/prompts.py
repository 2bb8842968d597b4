"""Captions alone, of which samples are drawn: a text file of prompts, or the captions of any other source."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from seppo_core.data.media import Decoder
from seppo_core.data.problems import Problems
from seppo_core.data.records import FixedFile, Records
from seppo_core.data.source import BadItem, Item, Source, View
from seppo_core.data.tables import Row, Table, TableRecords
from seppo_core.models.latents import CropInfo


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


class Prompts(Source):
    """The captions of `records` at the size that `decoder` decodes to; nothing is decoded.

    An item is a row. Of tables the caption's columns alone are read, so that they may name files that are not there.
    """

    form = "prompts"

    def __init__(self, records: Records, decoder: Decoder):
        self.records, self.kind = records, decoder.kind
        self.height, self.width, self.frames = decoder.height, decoder.width, decoder.frames
        whole = CropInfo(self.height, self.width, 0, 0, self.height, self.width)
        self._views = {"prompt": View(None, whole)}

    def __len__(self) -> int:
        return len(self.records)

    def item(self, position: int) -> Item:
        if not 0 <= position < len(self):
            raise IndexError(f"prompt {position} of {len(self)}")
        name, (caption, *more) = self._captions(position)
        return Item(name, name, caption, self._views, more=tuple(more))

    def _captions(self, position: int) -> tuple[str, tuple[str, ...]]:
        """The row's name and its captions."""
        if not isinstance(self.records, TableRecords):
            record = self.records.record(position)
            return record.id, (record.caption, *record.more)
        table, name = self.records.table, self.records.table.name(position)
        table.problems.check(position, name)
        return name, self.records.columns.texts(table.row(position), name)

    def fingerprint(self) -> str:
        if not isinstance(self.records, TableRecords):
            told = self.records.fingerprint()
        else:
            digest = sha256()
            for line in self._texts(self.records):
                digest.update(json.dumps(line).encode() + b"\n")
            told = digest.hexdigest()
        return sha256(
            json.dumps([self.form, self.kind, self.height, self.width, self.frames, told]).encode()
        ).hexdigest()

    def _texts(self, records: TableRecords) -> Iterator[tuple[str, ...]]:
        for row in records.table.scan():
            try:
                yield () if isinstance(row, BadItem) else records.columns.texts(row, "")
            except BadItem:
                yield ()

    def distinct_captions(self) -> int | None:
        return self.records.distinct_captions()
