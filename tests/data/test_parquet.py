"""Parquet shards: Pick-a-Pic's columns, structs, paths, damage, and reading by position."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seppo_core.data.parquet as module
from seppo_core.data.columns import choose_columns
from seppo_core.data.open import hash_of
from seppo_core.data.parquet import ParquetTable, Shard
from seppo_core.data.source import SourceLost
from tests.data.tables import faults, opened, read, write

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

A, B, C = 65, 66, 67


def shard(path: Path, columns: dict[str, list], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def pick_a_pic(path: Path, rows: list[tuple[bytes, bytes, float, str]], **options) -> Path:
    """A shard of Pick-a-Pic v2, some of its many other columns among them."""
    first, second, verdicts, captions = (list(column) for column in zip(*rows, strict=True))
    count = len(rows)
    return shard(
        path,
        {
            "are_different": [True] * count,
            "best_image_uid": ["u"] * count,
            "caption": captions,
            "has_label": [True] * count,
            "image_0_uid": ["a"] * count,
            "jpg_0": first,
            "jpg_1": second,
            "label_0": pa.array(verdicts, pa.float64()),
            "label_1": pa.array([None if v is None else 1 - v for v in verdicts], pa.float64()),
            "ranking_id": list(range(count)),
        },
        **options,
    )


def test_pick_a_pic_pairs_winners_and_ties(tmp_path):
    pick_a_pic(tmp_path / "data" / "train-00001.parquet", [(b"E", b"F", 0.0, "ef")])
    pick_a_pic(tmp_path / "data" / "train-00000.parquet", [(b"A", b"B", 1.0, "ab"), (b"C", b"D", 0.5, "cd")])
    assert read(opened(tmp_path, supervision="pairs")) == [("ab", A, B, None), "tie", ("ef", 70, 69, None)]
    assert read(opened(tmp_path)) == [("ab", A, None, None), "tie", ("ef", 70, None, None)]
    source = opened(f"{tmp_path}/data/train-*1.parquet", supervision="pairs")
    item = source.item(0)
    assert (len(source), item.id, item.file) == (1, "train-00001.parquet:0", "train-00001.parquet:0 jpg_1")


def test_missing_bytes_verdicts_and_captions_are_bad_rows(tmp_path):
    rows = [(None, b"B", 1.0, "x"), (b"A", b"", 1.0, "x"), (b"A", b"B", None, "x"), (b"A", b"B", 0.7, "x")]
    rows += [(b"A", b"B", 1.0, None), (b"A", b"B", 1.0, " "), (b"A", b"B", 1.0, "good")]
    path = pick_a_pic(tmp_path / "a.parquet", rows)
    assert read(opened(path, supervision="pairs")) == [
        "no jpg_0",
        "cannot be read: it is empty",
        "label_0 'None' is not 1, 0 or 0.5",
        "label_0 '0.7' is not 1, 0 or 0.5",
        "no caption; looked for caption",
        "empty caption",
        ("good", A, B, None),
    ]


def test_structs_of_bytes_and_path(tmp_path):
    write(tmp_path, "c.png", "C")
    images = [
        {"bytes": b"A", "path": "a.png"},
        {"bytes": b"B", "path": None},
        {"bytes": None, "path": "c.png"},
        {"bytes": None, "path": "/etc/passwd"},
        {"bytes": None, "path": None},
        None,
    ]
    path = shard(tmp_path / "x.parquet", {"image": images, "text": list("abcdef")})
    source = opened(path)
    assert read(source)[:3] == [("a", A, None, None), ("b", B, None, None), ("c", C, None, None)]
    assert source.item(0).file == "x.parquet:0 a.png image" and source.item(2).file == "c.png"
    assert [bad.reason.split(";")[0] for bad in faults(source)[3:]] == [
        "file_name leaves the data folder".replace("file_name", "image"),
        "no image",
        "no image",
    ]


def test_paths_to_files_and_labels(tmp_path):
    write(tmp_path / "clips", "a.mp4", "A"), write(tmp_path / "clips", "b.mp4", "B")
    columns = {"path": ["clips/a.mp4", "clips/b.mp4", "../x.mp4"], "caption": list("abc"), "label": [True, False, True]}
    source = opened(shard(tmp_path / "table.parquet", columns), supervision="labels")
    assert read(source)[:2] == [("a", A, None, True), ("b", B, None, False)]
    assert "leaves the data folder" in faults(source)[2].reason
    before = source.fingerprint()
    assert opened(tmp_path, supervision="labels").fingerprint() == before
    # a table of paths alone follows the files' sizes
    write(tmp_path / "clips", "a.mp4", "AA")
    assert opened(tmp_path, supervision="labels").fingerprint() != before


def test_the_fingerprint_reads_footers_alone(tmp_path, monkeypatch):
    def fingerprint(caption: str = "ab", name: str = "a.parquet", **data) -> str:
        path = pick_a_pic(tmp_path / name, [(b"A", b"B", 1.0, caption), (b"C", b"D", 0.0, "cd")])
        return opened(path, **data).fingerprint()

    monkeypatch.setattr(ParquetTable, "_begin", None)
    assert fingerprint() == fingerprint()
    changed = [fingerprint("ba"), fingerprint(name="b.parquet"), fingerprint(supervision="pairs")]
    assert len({fingerprint(), *changed}) == 4


def test_captions_are_counted_without_reading_a_picture(tmp_path, monkeypatch):
    for number in range(3):
        rows = [(b"A", b"B", 0.5 if n == 8 else 1.0, f"{number} {n % 5}" if n < 8 else "") for n in range(10)]
        path = pick_a_pic(tmp_path / f"{number}.parquet", rows, row_group_size=4, compression="zstd")
    # captions of one shard are damaged, another has pictures that nobody could decode
    content = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(2)
    assert chunk.path_in_schema == "caption"
    content[chunk.dictionary_page_offset : chunk.dictionary_page_offset + chunk.total_compressed_size] = b"\xff" * (
        chunk.total_compressed_size
    )
    path.write_bytes(content)
    (tmp_path / "3.parquet").write_bytes(b"PAR1")
    source = opened(tmp_path)
    monkeypatch.setattr(ParquetTable, "_begin", None)
    # the last one's second group has captions 4, 0, 1 and 2 of its own
    assert source.distinct_captions() == 5 + 5 + 4


def test_what_cannot_be_used_is_told_before_anything_is_read(tmp_path):
    path = shard(tmp_path / "a.parquet", {"picture": [b"A"], "caption": ["a"]})
    with pytest.raises(ValueError, match=r"a\.parquet.*\['picture', 'caption'\].*file_name"):
        opened(path)
    assert read(opened(path, first_column="picture")) == [("a", A, None, None)]
    path = shard(tmp_path / "a.parquet", {"image": [[1, 2]], "caption": ["a"]})
    with pytest.raises(ValueError, match=r"column image.*list"):
        opened(path)
    path = shard(tmp_path / "a.parquet", {"image": pa.array([], pa.binary()), "caption": pa.array([], pa.string())})
    with pytest.raises(ValueError, match=r"a\.parquet"):
        opened(path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"a\.parquet: "):
        opened(path)


def test_a_shard_that_cannot_be_opened_is_one_bad_row(tmp_path, capsys):
    for number in range(4):
        pick_a_pic(tmp_path / f"{number}.parquet", [(b"A", b"B", 1.0, f"{number}")] * 3)
    whole = (tmp_path / "1.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(whole[:-40])
    shard(tmp_path / "2.parquet", {"jpg_0": [b"A"], "caption": ["x"]})
    source = opened(tmp_path, supervision="pairs")
    found = read(source)
    assert [row[0] for row in found if not isinstance(row, str)] == ["0"] * 3 + ["3"] * 3 and len(found) == 8
    assert (faults(source)[3].file, faults(source)[4].file) == ("1.parquet", "2.parquet")
    assert "has no column jpg_1, label_0" in found[4]
    assert "1.parquet is left out from where it cannot be read" in capsys.readouterr().err


def test_a_damaged_row_group_ends_no_run(tmp_path, monkeypatch):
    rows = [(bytes([number]) * 900, b"B", 1.0, f"{number}") for number in range(40)]
    path = pick_a_pic(tmp_path / "a.parquet", rows, row_group_size=10, compression="zstd", use_dictionary=False)
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(5)
    assert chunk.path_in_schema == "jpg_0"
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset : chunk.data_page_offset + chunk.total_compressed_size] = b"\xff" * (
        chunk.total_compressed_size
    )
    path.write_bytes(content)
    source = opened(path)
    begun = []
    begin = ParquetTable._begin
    monkeypatch.setattr(ParquetTable, "_begin", lambda self, group: (begun.append(group), begin(self, group)))
    found = read(source)
    assert [row[0] for row in found if not isinstance(row, str)] == [f"{n}" for n in (*range(10), *range(20, 40))]
    assert all(reason.startswith("cannot be read: ") for reason in found[10:20])
    # once, not once a row
    assert begun.count(1) == 1


def test_bombs_are_refused_by_their_footers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BOMB_BYTES", 1024**2)
    pick_a_pic(tmp_path / "a.parquet", [(bytes(4 * 1024**2), b"B", 1.0, "x")], compression="zstd", use_dictionary=False)
    pick_a_pic(tmp_path / "b.parquet", [(b"A", b"B", 1.0, "x")])
    source = opened(tmp_path)
    assert "looks like a decompression bomb" in read(source)[0] and read(source)[1] == ("x", A, None, None)


def test_a_mirror_is_checked_by_rows_and_hash(tmp_path):
    import subprocess

    for name in "ab":
        pick_a_pic(tmp_path / f"{name}.parquet", [(b"A", b"B", 0.5, name)] * 2)
    listing = subprocess.run(
        "sha256sum *.parquet | sha256sum", shell=True, cwd=tmp_path, capture_output=True, text=True
    )
    expected = listing.stdout.split()[0]
    assert len(opened(tmp_path, expected_rows=4, expected_sha256=expected.upper())) == 4
    with pytest.raises(ValueError, match=r"\b4 rows.*data\.expected_rows=5"):
        opened(tmp_path, expected_rows=5)
    with pytest.raises(ValueError, match=rf"{expected}.*data\.expected_sha256=0000"):
        opened(tmp_path, expected_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"data\.expected_sha256"):
        opened(tmp_path, expected_sha256="12")
    one = subprocess.run(["sha256sum", tmp_path / "a.parquet"], capture_output=True, text=True).stdout.split()[0]
    assert hash_of([tmp_path / "a.parquet"]) == one


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(any),
    group=st.integers(1, 40),
    batch=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_every_position_in_any_order_gives_its_row(tmp_path_factory, sizes, group, batch, order):
    folder = tmp_path_factory.mktemp("p")
    expected = []
    for number, size in enumerate(sizes):
        rows = [f"{number} {row}" for row in range(size)]
        names = [f"{number}.parquet:{row}" for row in range(size)]
        expected += list(zip(names, rows, strict=True))
        columns = {
            "image": pa.array([row.encode() for row in rows], pa.binary()),
            "caption": pa.array(rows, pa.string()),
        }
        shard(folder / f"{number}.parquet", columns, row_group_size=group)
    shards = [Shard.of(path, path.name) for path in sorted(folder.iterdir())]
    table = ParquetTable(shards, choose_columns)
    table._widths[:] = module.BATCH_BYTES // batch
    positions = [*range(len(expected)), *(order.randrange(len(expected)) for _ in range(60))]
    order.shuffle(positions)
    for position in positions:
        name, caption = expected[position]
        assert table.row(position) == {"image": caption.encode(), "caption": caption}
        assert table.name(position) == name
    assert len(table) == len(expected)


def test_threads_read_what_one_reads(tmp_path):
    rows = [(f"{number}".encode(), b"B", 1.0, f"{number}") for number in range(400)]
    pick_a_pic(tmp_path / "a.parquet", rows[:250], row_group_size=60)
    pick_a_pic(tmp_path / "b.parquet", rows[250:], row_group_size=1000)
    source = opened(tmp_path)
    positions = random.Random(0).sample(range(400), 400)
    for order in (list(range(400)), positions):
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda i: source.item(i).caption, order)) == [f"{i}" for i in order]


def test_a_shard_that_changes_or_goes_is_an_error_not_a_bad_item(tmp_path):
    path = pick_a_pic(tmp_path / "a.parquet", [(b"A", b"B", 1.0, "x")])
    source = opened(path)
    pick_a_pic(path, [(b"A", b"B", 1.0, "x and more")])
    with pytest.raises(SourceLost, match="was changed"):
        source.item(0)
    path.unlink()
    with pytest.raises(SourceLost, match="is it still mounted"):
        source.item(0)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = pick_a_pic(tmp_path / "a.parquet", [(b"A", b"B", 1.0, "x")])
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"seppo\[data\]"):
        opened(path)
