"""Parquet shards as one table: rows by position, a few batches in memory at a time, whatever the shards' size."""

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seppo_core.config.messages import first_line
from seppo_core.data.columns import Columns
from seppo_core.data.problems import Problems
from seppo_core.data.records import FixedFile
from seppo_core.data.retry import RemoteFile, is_transient, retry_io
from seppo_core.data.source import BadItem, SourceLost
from seppo_core.data.tables import Row, Table

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from pyarrow import DataType, RecordBatch
    from pyarrow.parquet import FileMetaData, ParquetFile

BATCH_BYTES = 16 * 1024**2
"""Size of the batches that are decoded at once; `KEPT` of them stay, for threads that ask a little out of order."""
KEPT = 4
MAX_BATCH = 256
BOMB_BYTES, BOMB_RATIO = 1024**3, 200
"""A column this large that shrinks this much cannot hold pictures, which are compressed already."""


@dataclass(frozen=True)
class Shard:
    """One parquet file, here or, with `remote`, on a file system elsewhere."""

    name: str
    path: str
    size: int
    local: FixedFile | None = None
    remote: "AbstractFileSystem | None" = None

    @classmethod
    def of(cls, path: Path, name: str) -> "Shard":
        fixed = FixedFile.of(path)
        return cls(name, str(path), fixed.size, fixed)

    def open(self) -> "ParquetFile":
        from pyarrow.parquet import ParquetFile

        if self.local is not None:
            self.local.check()
        source = self.path if self.remote is None else RemoteFile(self.remote, self.path)
        # a buffer of its own streams a row group instead of holding its compressed bytes as a whole
        return ParquetFile(source, buffer_size=1024**2, pre_buffer=False)

    def footer(self) -> bytes:
        """The end of the file, with the sizes, offsets and extremes of all its columns."""
        with open(self.path, "rb") if self.remote is None else RemoteFile(self.remote, self.path) as file:  # noqa: PTH123
            file.seek(-8, 2)
            length = int.from_bytes(file.read(4), "little")
            file.seek(-min(length + 8, self.size), 2)
            return file.read()


class _RowGroup(NamedTuple):
    shard: int
    """Number of its shard."""
    number: int
    """Its number within the shard."""
    rows: int
    row_bytes: int
    """Uncompressed bytes per row of the columns that are read."""


class _Batch(NamedTuple):
    start: int
    """Position of its first row."""
    rows: "RecordBatch"


class ParquetTable(Table):
    """The rows of `shards`, in their order. `choose` picks columns by the names that the first readable shard has.

    A shard that cannot be opened counts as one bad row, since nobody can know how many it held. Rows are decoded in
    order within a row group: asking for ascending positions is fast, going back reads the row group again. Memory: a
    few batches of about 16 MB, and 24 bytes a row group.

    Raises ValueError if no shard can be used, and whatever `choose` raises.
    """

    def __init__(self, shards: Sequence[Shard], choose: Callable[[Sequence[str], str], Columns]):
        need_pyarrow("parquet files are read")
        self.shards = tuple(shards)
        self.files = tuple(Path(shard.path) for shard in self.shards if shard.remote is None)
        self.problems = Problems()
        self.choice: Columns | None = None
        digest, groups = sha256(), []
        for number, shard in enumerate(self.shards):
            try:
                found, footer = retry_io(partial(self._look_into, shard, choose), shard.name)
            except ValueError as error:
                # our own words about columns concern all shards alike
                if self.choice is None and not _is_arrow(error):
                    raise
                found, footer = self._lose(shard, error), b""
            except SourceLost:
                raise
            except (OSError, _Unusable) as error:
                found, footer = self._lose(shard, error), b""
            digest.update(footer)
            groups += [group._replace(shard=number) for group in found]
        if self.choice is None:
            raise ValueError(f"none of {len(self.shards)} parquet files can be read: {self._first_loss()}")
        self._groups = np.array([(group.shard, group.number) for group in groups], dtype=np.int32).reshape(-1, 2)
        self._starts = np.concatenate([[0], np.cumsum(np.array([group.rows for group in groups], dtype=np.int64))])
        self._widths = np.array([group.row_bytes for group in groups], dtype=np.int64)
        if len(self) == 0:
            raise ValueError(f"{self.shards[0].name} and its like have no rows")
        lost = self.problems.lost
        for number, shard in enumerate(self.shards):
            if shard.name in lost:
                row = int(self._starts[np.searchsorted(self._groups[:, 0], number)])
                self.problems.reject(row, f"none of its rows can be read: {lost[shard.name]}", shard.name)
        content = [[shard.name, shard.size, lost.get(shard.name)] for shard in self.shards]
        self._fingerprint = sha256(json.dumps([content, digest.hexdigest()]).encode()).hexdigest()
        self._lock = Lock()
        self._file: ParquetFile | None = None
        self._group, self._next = -1, 0
        self._batches: Iterator[RecordBatch] = iter(())
        self._kept: deque[_Batch] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, position: int) -> str:
        group = self._group_of(position)
        number = int(self._groups[group, 0])
        first = int(np.searchsorted(self._groups[:, 0], number))
        return f"{self.shards[number].name}:{position - int(self._starts[first])}"

    def row(self, position: int) -> Row:
        with self._lock:
            batch = self._batch_with(position)
        try:
            return batch.rows.slice(position - batch.start, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            raise BadItem(self.name(position), f"not UTF-8 text: {first_line(error)}") from error

    def scan_columns(self, names: Sequence[str]) -> Iterator[Row]:
        """Reads these columns alone, so that a table of pictures costs what its captions do."""
        for shard in self.shards:
            if shard.name not in self.problems.lost:
                # a few bytes a row: as a whole, so that a hiccup repeats no row
                yield from retry_io(partial(_columns_of, shard, list(names)), shard.name)

    def fingerprint(self) -> str:
        return self._fingerprint

    def _group_of(self, position: int) -> int:
        return bisect_right(self._starts, position) - 1

    def _batch_with(self, position: int) -> _Batch:
        for batch in self._kept:
            if batch.start <= position < batch.start + batch.rows.num_rows:
                return batch
        group, name = self._group_of(position), self.name(position)
        self.problems.check(position, name)
        try:
            return retry_io(partial(self._decode_to, position, group), name)
        except SourceLost:
            raise
        except Exception as error:
            # decoding stops at the damage; asking again would decode all before it again
            at = self._next if self._group == group else int(self._starts[group])
            self._group = -1
            local = self.shards[int(self._groups[group, 0])].local
            if local is not None:
                local.check()
            reason = "its row group ends early" if isinstance(error, StopIteration) else first_line(error)
            reason = f"cannot be read: {reason}"
            self.problems.reject_span(at, int(self._starts[group + 1]), reason)
            raise BadItem(name, reason) from error

    def _decode_to(self, position: int, group: int) -> _Batch:
        if self._group != group or self._next > position:
            self._begin(group)
        try:
            while True:
                batch = _Batch(self._next, next(self._batches))
                self._next += batch.rows.num_rows
                self._kept.append(batch)
                if position < self._next:
                    return batch
        except Exception as error:
            # nobody knows where the reader stands; it begins the group anew
            if is_transient(error):
                self._group = -1
            raise

    def _begin(self, group: int) -> None:
        number, inside = (int(i) for i in self._groups[group])
        if self._file is not None:
            self._file.close(force=True)
        self._file, self._group = self.shards[number].open(), group
        self._next = int(self._starts[group])
        size = int(np.clip(BATCH_BYTES // max(1, self._widths[group]), 1, MAX_BATCH))
        columns = list(self.columns)
        self._batches = self._file.iter_batches(size, row_groups=[inside], columns=columns, use_threads=False)

    def _look_into(self, shard: Shard, choose: Callable) -> tuple[list[_RowGroup], bytes]:
        """The shard's row groups, and its footer."""
        with shard.open() as file:
            metadata, schema = file.metadata, file.schema_arrow
            if self.choice is None:
                choice = choose(schema.names, shard.name)
                self.holds_bytes = _check_types(schema, choice, shard.name)
                self.choice, self.columns = choice, tuple(dict.fromkeys(choice.names))
            missing = [name for name in self.columns if name not in schema.names]
            if missing:
                raise _Unusable(f"it has no column {', '.join(missing)}")
            _refuse_bombs(metadata, self.columns)
            found = [
                _RowGroup(0, i, metadata.row_group(i).num_rows, _bytes_per_row(metadata, i, self.columns))
                for i in range(metadata.num_row_groups)
            ]
        return found, shard.footer()

    def _lose(self, shard: Shard, error: Exception) -> list[_RowGroup]:
        """Notes that the shard cannot be read, and lets it count as one row."""
        self.problems.lose(shard.name, first_line(error))
        return [_RowGroup(0, 0, 1, 0)]

    def _first_loss(self) -> str:
        return next((f"{name}: {reason}" for name, reason in self.problems.lost.items()), "there are none")


class _Unusable(Exception):
    pass


def _columns_of(shard: Shard, names: list[str]) -> list[Row]:
    """Rows with these columns, without those of damaged groups, which `prepare` will not read either."""
    rows = []
    with shard.open() as file:
        for group in range(file.metadata.num_row_groups):
            try:
                rows += file.read_row_group(group, columns=names, use_threads=False).to_pylist()
            except Exception as error:
                if isinstance(error, SourceLost) or is_transient(error):
                    raise
    return rows


def need_pyarrow(what: str) -> None:
    """ModuleNotFoundError, a line that names the extra, where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise ModuleNotFoundError(f'{what} by pyarrow, which is not installed: pip install "seppo[data]"')


def _check_types(schema, columns: Columns, where: str) -> bool:
    """Whether the table holds the pictures or clips themselves. Raises ValueError if it cannot hold any."""
    kinds = []
    for name in (columns.first, columns.second):
        if name is not None:
            kind = schema.field(name).type
            if not (_is_bytes(kind) or _is_text(kind) or _is_struct(kind)):
                raise ValueError(
                    f"{where}: column {name} is of type {kind}; it must hold bytes, {{bytes, path}} or file names"
                )
            kinds.append(not _is_text(kind))
    return any(kinds)


def _is_bytes(kind: "DataType") -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _is_text(kind: "DataType") -> bool:
    return str(kind) in ("string", "large_string", "string_view") or str(kind).startswith("dictionary<values=string")


def _is_struct(kind: "DataType") -> bool:
    return str(kind).startswith("struct<") and {kind.field(i).name for i in range(kind.num_fields)} <= {"bytes", "path"}


def _is_arrow(error: Exception) -> bool:
    return type(error).__module__.startswith("pyarrow")


def _chunks(metadata: "FileMetaData", group: int, columns: Sequence[str]) -> Iterator:
    found = metadata.row_group(group)
    for index in range(found.num_columns):
        chunk = found.column(index)
        if chunk.path_in_schema.split(".")[0] in columns:
            yield chunk


def _bytes_per_row(metadata: "FileMetaData", group: int, columns: Sequence[str]) -> int:
    size = sum(chunk.total_uncompressed_size for chunk in _chunks(metadata, group, columns))
    return size // max(1, metadata.row_group(group).num_rows)


def _refuse_bombs(metadata: "FileMetaData", columns: Sequence[str]) -> None:
    for group in range(metadata.num_row_groups):
        for chunk in _chunks(metadata, group, columns):
            small, large = chunk.total_compressed_size, chunk.total_uncompressed_size
            if large > BOMB_BYTES and large > BOMB_RATIO * max(1, small):
                raise _Unusable(
                    f"column {chunk.path_in_schema} grows from {small:,} to {large:,} bytes, which no pictures do; "
                    "it looks like a decompression bomb"
                )
