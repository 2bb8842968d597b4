"""A disk or a network that fails for a moment costs a wait, and one that stays away ends the run: never an item."""

import errno
import io
import os
from pathlib import Path

import pytest

import seppo_core.data.retry as module
from seppo_core.cache.prepare import prepare
from seppo_core.data.columns import choose_columns
from seppo_core.data.hub import streamed
from seppo_core.data.media import MediaSource
from seppo_core.data.retry import RemoteFile, is_transient, retry_io
from seppo_core.data.source import SourceLost, View
from seppo_core.data.tables import TableRecords
from seppo_core.models.adapter import CropInfo
from tests.data.tables import OneByte, faults, jsonl, opened, read, write

A, B = 65, 66
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """The waits that were slept through, none of them long."""
    slept = []
    monkeypatch.setattr(module, "WAITS", (1.0, 4.0))
    monkeypatch.setattr(module.time, "sleep", slept.append)
    return slept


class Failing:
    """A call that fails at its nth times, counted from 0, where `concerns` says so of its arguments."""

    def __init__(self, call, error: Exception, at: range | set[int], concerns=lambda *_: True):
        self.call, self.error, self.at, self.concerns, self.count = call, error, at, concerns, 0

    def __call__(self, *arguments, **named):
        if self.concerns(*arguments):
            self.count += 1
            if self.count - 1 in self.at:
                raise self.error
        return self.call(*arguments, **named)


def failing(owner, name: str, monkeypatch, error: Exception, at, concerns=lambda *_: True) -> Failing:
    planted = Failing(getattr(owner, name), error, at, concerns)
    # a function, so that it is bound as a method
    monkeypatch.setattr(owner, name, lambda *arguments, **named: planted(*arguments, **named))
    return planted


def io_error(number: int = errno.EIO) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
def test_what_lies_on_the_way_and_what_is_damage(number):
    assert is_transient(io_error(number))
    assert is_transient(ConnectionResetError("Connection reset by peer")) and is_transient(TimeoutError("timed out"))
    for error in (OSError("ZSTD decompression failed"), io_error(errno.ENOENT), io_error(errno.EACCES), EOFError()):
        assert not is_transient(error)


def test_waits_grow_and_the_last_error_is_told(waits, capsys):
    calls = Failing(lambda: "read", io_error(), range(2))
    assert retry_io(calls, "a.tar") == "read" and waits == [1.0, 4.0]
    assert "a.tar: [Errno 5] Input/output error; trying again in 1 s" in capsys.readouterr().err
    with pytest.raises(SourceLost, match=r"a\.tar.*\[Errno 5\]"):
        retry_io(Failing(None, io_error(), range(9)), "a.tar")
    damage = Failing(None, OSError("broken"), range(9))
    with pytest.raises(OSError, match="broken"):
        retry_io(damage, "a.tar")
    assert damage.count == 1


def hub(rows: int, group: int):
    """Two shards of a data set on a file system in memory."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from fsspec.implementations.memory import MemoryFileSystem

    class Rootless(MemoryFileSystem):
        store, pseudo_dirs, cachable = {}, [""], False

        def find(self, path, **options):
            return [found.lstrip("/") for found in super().find(path, **options)]

    remote = Rootless()
    for number in range(2):
        buffer = io.BytesIO()
        captions = [f"{number} {row}" for row in range(rows)]
        columns = {"image": pa.array([b"A" * 2000] * rows, pa.binary()), "caption": captions}
        pq.write_table(pa.table(columns), buffer, row_group_size=group, compression=None, use_dictionary=False)
        remote.pipe(f"datasets/o/n/data/train-0000{number}-of-00002.parquet", buffer.getvalue())
    return remote


def of_hub(remote) -> MediaSource:
    table = streamed("o/n", "train", None, None, choose_columns, remote)
    source = MediaSource(TableRecords(table, table.choice, Path.cwd()), OneByte())
    source.decoder.max_bytes = 10**6
    return source


class NoAnswer(Exception):
    """Of a client's own kind, as httpx has them."""


@pytest.mark.parametrize("error", [ConnectionResetError("Connection reset by peer"), NoAnswer("no answer")], ids=str)
@pytest.mark.parametrize("at", range(14))
def test_a_connection_that_fails_once_loses_no_row(monkeypatch, waits, error, at):
    """At every call in turn, of opening shards, of their footers, and of reading rows."""
    remote = hub(300, 100)
    undisturbed = of_hub(remote)
    planted = failing(RemoteFile, "_read", monkeypatch, error, {at})
    source = of_hub(remote)
    assert source.fingerprint() == undisturbed.fingerprint()
    assert [row[0] for row in read(source)] == [f"{number} {row}" for number in range(2) for row in range(300)]
    assert planted.count > 14 and waits == [1.0]


def test_opening_that_fails_once(monkeypatch, waits):
    remote = hub(300, 100)
    source = of_hub(remote)
    failing(type(remote), "open", monkeypatch, ConnectionResetError("Connection reset by peer"), {0})
    assert faults(source) == [None] * 600 and waits == [1.0]


def test_a_connection_that_stays_away_ends_the_run_and_rejects_nothing(tmp_path, monkeypatch):
    from tests.cache.winners import PixelAdapter

    remote = hub(300, 100)
    source = of_hub(remote)
    source.height = source.width = source.decoder.height = 2
    whole = source.decoder.decode
    source.decoder.decode = lambda name, content: View(whole(name, content).pixels.expand(3, 2, 2), CropInfo(*[1] * 6))
    planted = failing(type(remote), "open", monkeypatch, ConnectionResetError("reset by peer"), range(1, 99))
    options = {"model": "m", "shard_size": 100, "progress": False}
    with pytest.raises(SourceLost, match="3 tries"):
        prepare(PixelAdapter(), source, tmp_path / "cache", **options)
    planted.at = ()
    manifest = prepare(PixelAdapter(), source, tmp_path / "cache", **options)
    assert (manifest.items, manifest.rejected) == (600, 0)


def test_a_parquet_file_on_a_disk_that_hiccups(tmp_path, monkeypatch, waits):
    pytest.importorskip("pyarrow")
    from seppo_core.data.parquet import ParquetTable
    from tests.data.test_parquet import pick_a_pic

    path = pick_a_pic(tmp_path / "a.parquet", [(b"A", b"B", 1.0, f"{n}") for n in range(40)], row_group_size=10)
    source = opened(path)
    whole = [row[0] for row in read(source)]
    batches = ParquetTable._begin

    def begin(self, group):
        batches(self, group)
        inner = iter(list(self._batches))
        self._batches = iter(Failing(lambda: next(inner), io_error(), {0} if self.hiccups.pop() else ()), None)

    monkeypatch.setattr(ParquetTable, "_begin", begin)
    monkeypatch.setattr(ParquetTable, "hiccups", [False] * 6 + [True, True, False], raising=False)
    again = opened(path)
    assert [row[0] for row in read(again)] == whole and waits == [1.0, 4.0]
    monkeypatch.setattr(ParquetTable, "hiccups", [True] * 99)
    with pytest.raises(SourceLost, match="3 tries"):
        opened(path).item(0)


def folder(tmp_path: Path, names: str = "abc") -> Path:
    for name in names:
        write(tmp_path / "data", f"{name}.png", name.upper())
    return jsonl(tmp_path / "data", *({"file_name": f"{name}.png", "caption": name} for name in names))


def of_png(path: Path, *_) -> bool:
    return path.suffix == ".png"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_for_a_moment(tmp_path, monkeypatch, waits, number):
    source = opened(folder(tmp_path))
    failing(Path, "open", monkeypatch, io_error(number), {1, 2}, of_png)
    assert [row[0] for row in read(source)] == ["a", "b", "c"] and waits == [1.0]
    failing(Path, "stat", monkeypatch, io_error(number), {0}, of_png)
    assert source.item(0).caption == "a" and waits == [1.0] * 2


def test_a_bad_sector_is_one_bad_item_and_a_lost_disk_is_none(tmp_path, monkeypatch):
    source, other = opened(folder(tmp_path / "one", "abcd")), opened(folder(tmp_path / "two"))
    with monkeypatch.context() as patch:
        failing(Path, "open", patch, io_error(), range(99), lambda path, *_: path.name in ("b.png", "d.png"))
        bad = faults(source)
    reason = "cannot be read: Input/output error, again and again"
    assert [fault and (fault.file, fault.reason) for fault in bad] == [None, ("b.png", reason), None, ("d.png", reason)]
    with monkeypatch.context() as patch:
        failing(Path, "open", patch, io_error(), range(99), of_png)
        with pytest.raises(SourceLost, match=r"b\.png"):
            faults(other)
    # what only networks say is no sector
    failing(Path, "open", monkeypatch, io_error(errno.ESTALE), range(99), of_png)
    with pytest.raises(SourceLost, match=r"c\.png"):
        other.item(2)


def test_damage_costs_no_wait(tmp_path, waits):
    source = opened(folder(tmp_path))
    write(tmp_path / "data", "b.png", "")
    assert faults(source)[1].reason == "cannot be read: it is empty"

    def damaged(name, content):
        raise SyntaxError("not a picture")

    source.decoder.decode = damaged
    assert faults(source)[0].reason == "cannot be read: not a picture" and waits == []


def test_tars_opened_and_read(tmp_path, monkeypatch, waits):
    from tests.data.test_tars import tar

    path = tar(tmp_path / "a.tar", ("1.png", "A"), ("1.txt", "a"), ("2.png", "B"), ("2.txt", "b"))
    whole = opened(path)
    planted = failing(Path, "open", monkeypatch, io_error(), {0}, lambda path, *_: path.suffix == ".tar")
    source = opened(path)
    assert source.fingerprint() == whole.fingerprint() and waits == [1.0]
    planted.at = {planted.count, planted.count + 3}
    assert read(source) == [("a", A, None, None), ("b", B, None, None)] and len(waits) == 3
    planted.at = range(999)
    with pytest.raises(SourceLost, match=r"a\.tar"):
        source.item(0)
