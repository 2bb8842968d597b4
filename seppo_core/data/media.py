"""Joins records and a decoder into the items that a method learns from."""

import json
from abc import ABC, abstractmethod
from errno import EIO
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch

from seppo_core.config.messages import first_line
from seppo_core.config.method_specs import Supervision
from seppo_core.data.records import Media, Record, Records
from seppo_core.data.retry import retry_io
from seppo_core.data.source import BadItem, Item, Kind, LeftOut, Source, SourceLost, View
from seppo_core.io import purposes
from seppo_core.io.memory import memory_is_full
from seppo_core.io.rng import keyed_generator

FORMS: dict[Supervision, tuple[Supervision, ...]] = {
    "winners": ("winners",),
    "pairs": ("pairs", "winners", "labels"),
    "labels": ("labels", "winners"),
}
"""The forms that rows can be read as, by what they hold."""


class Decoder(ABC):
    """Decodes files, or their bytes, into pixels of one size."""

    kind: Kind
    height: int
    width: int
    frames: int = 1
    max_bytes: int
    """Larger files are rejected unread."""
    decoding: str | None = None
    """Name and version, as `Source.decoding`."""

    @abstractmethod
    def decode(self, name: str, content: Path | bytes) -> View:
        """Decodes and crops one file. Raises BadItem, or whatever a library raises for damage."""

    def settings(self) -> tuple[int | float | str | bool, ...]:
        """Settings that decide the pixels of given bytes; subclasses add theirs."""
        return (self.kind, self.height, self.width, self.frames, self.max_bytes)


class MediaSource(Source):
    """The items of `records`, decoded, as `form`.

    Pairs read as winners give the winner, or with `pick` "random" one of the two, drawn by (seed, row's id); read as
    labels they give two items a row. Labelled items read as winners are the good ones. Rows that cannot be used stay in
    their place and raise BadItem when asked for, so that positions never shift.

    Raises ValueError if the records cannot be read as `form`.
    """

    def __init__(
        self,
        records: Records,
        decoder: Decoder,
        *,
        form: Supervision = "winners",
        pick: Literal["winner", "random"] = "winner",
        seed: int = 0,
    ):
        if min(decoder.height, decoder.width, decoder.frames) < 1:
            raise ValueError(
                f"height {decoder.height}, width {decoder.width} and frames {decoder.frames} must all be at least 1"
            )
        if form not in FORMS[records.form]:
            raise ValueError(
                f"the data hold {records.form}, which cannot be read as {form}; use data.supervision="
                f"{' or '.join(FORMS[records.form])}, or data with {'a loser' if form == 'pairs' else 'a label'} a row"
            )
        if pick == "random" and (form, records.form) != ("winners", "pairs"):
            raise ValueError(
                f"data.pick=random takes either of a pair as the winner; the data hold {records.form} and are read "
                f"as {form}; leave it out"
            )
        self.records, self.decoder, self.form, self.pick, self.seed = records, decoder, form, pick, seed
        self.decoding = decoder.decoding
        self.kind, self.height, self.width, self.frames = decoder.kind, decoder.height, decoder.width, decoder.frames
        self._split = form == "labels" and records.form == "pairs"

    def __len__(self) -> int:
        return len(self.records) * (2 if self._split else 1)

    def item(self, position: int) -> Item:
        if not 0 <= position < len(self):
            raise IndexError(f"item {position} of {len(self)}")
        record = self._record(position // 2 if self._split else position)
        if self._split:
            good = position % 2 == 0
            name = f"{record.id} {'winner' if good else 'loser'}"
            return self._labelled(record._replace(id=name), record.winner if good else record.loser, good)
        if self.form == "labels":
            return self._labelled(record, record.winner or record.loser, record.winner is not None)
        if record.winner is None:
            raise LeftOut(record.loser.name, "labelled bad")
        if self.form == "winners":
            chosen = self._either(record) if self.pick == "random" else record.winner
            return Item(record.id, chosen.name, record.caption, {"winner": self._decoded(chosen)}, more=record.more)
        views = {"winner": self._decoded(record.winner), "loser": self._decoded(record.loser)}
        return Item(record.id, record.winner.name, record.caption, views, more=record.more)

    def distinct_captions(self) -> int | None:
        return self.records.distinct_captions()

    def fingerprint(self) -> str:
        form = (self.form, self.pick, self.seed) if self.pick == "random" else (self.form, self.pick)
        return sha256(json.dumps([self.decoder.settings(), form, self.records.fingerprint()]).encode()).hexdigest()

    def _record(self, row: int) -> Record:
        try:
            return self.records.record(row)
        except (BadItem, SourceLost):
            raise
        except Exception as error:
            self.records.check_there()
            raise BadItem(f"row {row}", f"cannot be read: {first_line(error)}") from error

    def _labelled(self, record: Record, media: Media, good: bool) -> Item:
        views = {"item": self._decoded(media)}
        return Item(record.id, media.name, record.caption, views, label=good, more=record.more)

    def _either(self, record: Record) -> Media:
        drawn = int(torch.randint(2, (), generator=keyed_generator(purposes.WINNER, self.seed, record.id)))
        return (record.winner, record.loser)[drawn]

    def _decoded(self, media: Media) -> View:
        try:
            return self._whole(media)
        except (BadItem, SourceLost):
            raise
        except Exception as error:
            # decoders answer a full memory with whatever comes to hand, too
            if not isinstance(error, MemoryError) and not memory_is_full():
                raise _damaged(media, error) from error
            raise SourceLost(
                f"{media.name}: the memory is full while it is decoded; lower data.workers, leave it out, or make it "
                "smaller, and the same command goes on"
            ) from error

    def _whole(self, media: Media) -> View:
        limit = self.decoder.max_bytes
        if media.size > limit:
            raise BadItem(media.name, f"{media.size:,} bytes are over the limit of {limit:,} (data.max_file_mb)")
        if media.size == 0:
            raise BadItem(media.name, "cannot be read: it is empty")
        try:
            decoded = self.decoder.decode(media.name, media.load())
            self.records.problems.note_read()
            return decoded._replace(noise=media.noise)
        except (BadItem, SourceLost, MemoryError):
            raise
        # decoders answer a damaged file with whatever comes to hand: OSError, SyntaxError, struct.error, EOFError, …
        except Exception:
            self.records.check_there()
            if not isinstance(media.content, Path) or memory_is_full():
                raise
        # … and one that they could not read for a moment just so
        self._read_through(media)
        return self.decoder.decode(media.name, media.content)._replace(noise=media.noise)

    def _read_through(self, media: Media) -> None:
        """Reads a file to its end, with retries, to tell damage from a failing disk.

        Raises BadItem if only this file cannot be read, as on a bad sector; SourceLost if another file before it could
        not be read either.
        """
        try:
            retry_io(partial(_read, media.content), media.name)
        except SourceLost as lost:
            error = lost.__cause__
            damaged = isinstance(error, OSError) and error.errno == EIO
            if not damaged or not self.records.problems.is_alone_unreadable(media.name):
                raise
            raise BadItem(media.name, f"cannot be read: {error.strerror}, again and again") from error
        except OSError:
            # it may have gone, or be forbidden: the decoder says so again
            pass
        self.records.problems.note_read()


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1024**2):
            pass


def _damaged(media: Media, error: Exception) -> BadItem:
    reason = first_line(error)
    if isinstance(media.content, Path):
        reason = reason.replace(str(media.content), media.name)
    return BadItem(media.name, f"cannot be read: {reason}")
