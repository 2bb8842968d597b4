"""Captions alone, of which samples are drawn: those of a text file of prompts, or of any other source."""

import json
from collections.abc import Iterator
from hashlib import sha256

from seppo_core.data.media import Decoder
from seppo_core.data.records import Records
from seppo_core.data.source import BadItem, Item, Source, View
from seppo_core.data.tables import TableRecords
from seppo_core.models.latents import CropInfo


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
