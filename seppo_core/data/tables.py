"""Tables of any format as records: rows of named columns, read one by one."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np

from seppo_core.data.columns import VIDEO_ID, Columns, media_of
from seppo_core.data.filename_index import FilenameIndex
from seppo_core.data.problems import Problems
from seppo_core.data.records import Media, Record, Records, leaves_folder
from seppo_core.data.retry import retry_io
from seppo_core.data.source import BadItem, LeftOut, SourceLost, is_text
from seppo_core.data.walk import walk_files
from seppo_core.io.hashing import hash64, repeats

FIRST_ROWS = 16
"""Rows by which the folder of a table's files is looked for."""
Row = dict[str, object]


class Table(ABC):
    """A table whose rows are read by position; several threads may ask at once."""

    columns: tuple[str, ...]
    files: tuple[Path, ...] = ()
    problems: Problems
    """Known faults of the rows."""
    holds_bytes: bool
    """Whether the pictures or clips lie in the table itself rather than beside it."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, position: int) -> Row:
        """Raises BadItem if it cannot be read."""

    @abstractmethod
    def name(self, position: int) -> str:
        """The name of a row in messages if it has no file of its own."""

    def scan(self) -> Iterator[Row | BadItem]:
        """All rows in order, and what is raised for those that cannot be read."""
        for position in range(len(self)):
            try:
                yield self.row(position)
            except BadItem as bad:
                yield bad

    def scan_columns(self, names: Sequence[str]) -> Iterator[Row] | None:
        """The readable rows with only these columns, or None if a row can only be read as a whole."""
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """A cheap hash of the table alone."""


class TableRecords(Records):
    """The rows of a table, files among them found under `root`.

    If `unique`, a row that names the same files as an earlier one is another caption of it, if they are winners, else
    rejected, since its name is its id. That takes a pass over the rows, which also gives the fingerprint; otherwise
    only tables of file names need one, for the sizes.
    """

    def __init__(self, table: Table, columns: Columns, root: Path, unique: bool = False, prefix: str = ""):
        self.prefix = prefix
        self.table, self.columns, self.root, self.unique = table, columns, root, unique
        self.form, self.files = columns.form, table.files
        self.filenames = FilenameIndex(root) if columns.first == VIDEO_ID else None
        self.problems = table.problems
        self._captions: int | None = None
        self._captions_of: dict[int, list[int]] = {}
        """Of a row: those behind it with further captions."""
        self._belongs_to: dict[int, int] = {}
        """Of each of those: the row that it is a caption of."""
        self._fingerprint = self._pass() if unique else None

    def __len__(self) -> int:
        return len(self.table)

    def record(self, position: int) -> Record:
        name = self.table.name(position)
        self.problems.check(position, name)
        record = self._record(self.table.row(position), name)
        if (first := self._belongs_to.get(position)) is not None:
            raise LeftOut(record.id, f"another caption of what {self.table.name(first)} names")
        if position not in self._captions_of:
            return record
        rows = map(self.table.row, self._captions_of[position])
        more = chain(record.more, *(self.columns.texts(row, record.id) for row in rows))
        return record._replace(more=tuple(caption for caption in dict.fromkeys(more) if caption != record.caption))

    def fingerprint(self) -> str:
        if self._fingerprint is None:
            beside = "" if self.table.holds_bytes else self._pass()
            content = [self.table.fingerprint(), list(self.columns.names), self.form, beside]
            self._fingerprint = sha256(json.dumps(content).encode()).hexdigest()
        return self._fingerprint

    def distinct_captions(self) -> int | None:
        if self._captions is None and (rows := self.table.scan_columns(self.columns.captions)) is not None:
            self._captions = _distinct(hash64(text.encode()) for row in rows for text in self._texts(row))
        return self._captions

    def _texts(self, row: Row) -> tuple[str, ...]:
        try:
            return self.columns.texts(row, "")
        except BadItem:
            return ()

    def check_there(self) -> None:
        if not retry_io(self.root.is_dir, str(self.root)):
            raise SourceLost(f"{self.root} vanished while its items were read; is it still mounted?")

    def _record(self, row: Row, name: str) -> Record:
        c = self.columns
        first = self._media(row, c.first, name)
        first = first._replace(noise=c.noise(row, 0, first.name))
        second = None if c.second is None else self._media(row, c.second, name)
        second = second and second._replace(noise=c.noise(row, 1, second.name))
        # a file's own name goes with it wherever its row moves to
        files = [media.name for media in (first, second) if media is not None]
        identity = " ".join(files) if isinstance(first.content, Path) else name
        caption, *more = c.texts(row, identity)
        won = c.verdict(row, identity)
        return Record(identity, caption, *((first, second) if won else (second, first)), more=tuple(more))

    def _media(self, row: Row, column: str, name: str) -> Media:
        value = row.get(column)
        if self.filenames is not None and column == self.columns.first and isinstance(value, str) and value.strip():
            value = self.filenames.find(value.strip())
        if self.prefix and isinstance(value, str):
            value = slashed(value).removeprefix(self.prefix)
        try:
            media = media_of(value, self.root, name, column)
        except BadItem as bad:
            raise BadItem(bad.file, bad.reason.replace("file_name leaves", f"{column} leaves", 1)) from None
        # two halves in one row need two names, since draws are keyed by them
        return media if isinstance(media.content, Path) else media._replace(name=f"{media.name} {column}")

    def _pass(self) -> str:
        """Hashes every row and the sizes of its files; rejects rows that repeat an earlier one if `unique`."""
        digest = sha256(json.dumps([list(self.columns.names), self.form]).encode())
        hashes, captions = (np.zeros(len(self.table), dtype=np.uint64) for _ in range(2))
        more: list[int] = []
        for position, row in enumerate(self.table.scan()):
            try:
                if isinstance(row, BadItem):
                    raise row
                record = self._record(row, self.table.name(position))
                halves = [media and _identity(media) for media in (record.winner, record.loser)]
                content = [record.id, record.caption, halves, *record.more]
                more += [hash64(caption.encode()) for caption in record.more]
                hashes[position], captions[position] = hash64(record.id.encode()), hash64(record.caption.encode())
            except BadItem as bad:
                content = [bad.file, bad.reason]
            digest.update(json.dumps(content).encode())
        if self.unique:
            self._note_repeats(hashes)
        if self._belongs_to:
            # in the caches of earlier versions the rows of one file had the first one's caption alone
            digest.update(b"captions of several rows")
        self._captions = _distinct(np.append(captions, np.array(more, dtype=np.uint64)))
        return digest.hexdigest()

    def _note_repeats(self, hashes: np.ndarray) -> None:
        for again, first in repeats(hashes).items():
            if self.form == "winners":
                captions = {text for row in self._rows_of(first) for text in self._texts(self.table.row(row))}
                if not captions.issuperset(self._texts(self.table.row(again))):
                    self._captions_of.setdefault(first, []).append(again)
                    self._belongs_to[again] = first
                    continue
            reason = f"named twice, first on {self.table.name(first)} of {self.files[0].name}"
            self.problems.reject(again, reason, self.record(again).id)

    def _rows_of(self, first: int) -> list[int]:
        return [first, *self._captions_of.get(first, ())]


def _identity(media: Media) -> tuple:
    return (media.name, media.size) if media.noise is None else (media.name, media.size, media.noise)


def _distinct(hashes: Iterable[int]) -> int:
    """Number of distinct hashes other than 0."""
    found = hashes if isinstance(hashes, np.ndarray) else np.fromiter(hashes, dtype=np.uint64)
    return int(np.count_nonzero(np.unique(found)))


class Place(NamedTuple):
    """Where the files of a table are if not where it says, and what should be said of it."""

    root: Path
    prefix: str = ""
    """What names begin with on the machine that they were written on, up to what lies under `root`."""
    remark: str = ""


def find_place(table: Table, columns: Columns, root: Path) -> Place:
    """Where the files that the first rows name are: under `root`, or, if `root` has none of them, in the one folder
    below it with all; or under `root` without the folders of another machine that all names begin with."""
    if columns.first == VIDEO_ID:
        return Place(root)
    rows = [row for row in islice(table.scan(), FIRST_ROWS) if not isinstance(row, BadItem)]
    values = [row.get(columns.first) for row in rows]
    names = [slashed(value) for value in values if isinstance(value, str) and value.strip() and is_text(value)]
    where = f"{table.files[0]}: its first files, as {names[0]}," if names else ""
    if names and all(map(_is_absolute, names)):
        prefix = _foreign(names, root)
        return Place(root, prefix, f"{where} are read without {prefix} from {root}" if prefix else "")
    wanted = [name for name in names if not leaves_folder(name)]
    if not wanted or any((root / name).exists() for name in wanted):
        return Place(root)
    found = [root / folder for folder, _ in walk_files(root) if folder and (root / folder / wanted[0]).is_file()]
    found = [folder for folder in found if all((folder / name).is_file() for name in wanted)]
    if len(found) == 1:
        return Place(found[0], remark=f"{where} are not in {root}; they are read in {found[0]}, where all of them are")
    return Place(root, remark=f"{where} are not in {root}; set data.root to the folder that names are relative to")


def _foreign(names: list[str], root: Path) -> str:
    """The shortest beginning of all `names` without which each is a file under `root`; "" if there is none."""
    parts = [name.split("/") for name in names]
    if any(PurePosixPath(name).is_relative_to(root.absolute().as_posix()) for name in names):
        return ""
    for count in range(1, min(map(len, parts))):
        if len({tuple(part[:count]) for part in parts}) > 1:
            break
        rests = ["/".join(part[count:]) for part in parts]
        if not any(map(leaves_folder, rests)) and all((root / rest).is_file() for rest in rests):
            return "/".join(parts[0][:count]) + "/"
    return ""


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or bool(PureWindowsPath(name).drive)


def slashed(name: str) -> str:
    return name.strip().replace("\\", "/")
