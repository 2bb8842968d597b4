"""Data sets that `datasets` has saved, or loads from a folder; the hub's file system stood in for by one in memory."""

import io
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

import seppo_core.data.hub as module
from seppo_core.data.columns import choose_columns
from seppo_core.data.hub import streamed
from seppo_core.data.media import MediaSource
from seppo_core.data.tables import TableRecords
from tests.data.tables import OneByte, jpeg, opened, read

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

A, B, C = 65, 66, 67
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub_cache")
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", str(tmp_path / "hub_cache"))
    datasets.disable_progress_bars()


def test_a_saved_data_set_and_its_splits(tmp_path):
    train = datasets.Dataset.from_dict({"jpg_0": [b"A"], "jpg_1": [b"B"], "label_0": [0.0], "caption": ["x"]})
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=train, test=train.select([0, 0])).save_to_disk(tmp_path / "two")
    assert read(opened(tmp_path / "one", supervision="pairs")) == [("x", B, A, None)]
    assert len(opened(tmp_path / "two")) == 1
    source = opened(tmp_path / "two", supervision="pairs", split="test")
    assert len(source) == 2 and source.item(1).id == "two-test:1"
    assert source.distinct_captions() == 1
    again = opened(tmp_path / "two", supervision="pairs", split="test").fingerprint()
    assert source.fingerprint() == again != opened(tmp_path / "two").fingerprint()
    with pytest.raises(ValueError, match=r"val.*train, test.*data\.split"):
        opened(tmp_path / "two", split="val")
    with pytest.raises(ValueError, match="nothing"):
        opened(tmp_path / "one", first_column="nothing")
    with pytest.raises(ValueError, match=r"data\.expected_sha256.*data\.revision"):
        opened(tmp_path / "one", expected_sha256="0" * 64)


def test_pictures_stay_bytes_until_we_decode_them(tmp_path):
    images = [Image.open(io.BytesIO(jpeg(value))) for value in (10, 200)]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    saved = datasets.Dataset.from_dict({"image": images, "text": ["dark", "light"]}, features=features)
    saved.save_to_disk(tmp_path / "pictures")
    seen = []

    class Recording(OneByte):
        def decode(self, name, content):
            seen.append((name, content[:4]))
            return super().decode(name, content)

    source = opened(tmp_path / "pictures", Recording())
    source.decoder.max_bytes = 10**6
    assert [row[0] for row in read(source)] == ["dark", "light"]
    assert [content for _, content in seen] in ([jpeg(0)[:4]] * 2, [b"\x89PNG"] * 2)


def test_a_folder_that_the_library_knows_how_to_load(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for split, rows in {"train": "AB", "test": "C"}.items():
        columns = {"image": [row.encode() for row in rows], "caption": list(rows)}
        pq.write_table(pa.table(columns), folder / f"{split}-00000-of-00001.parquet")
    assert read(opened(folder, format="hub")) == [("A", A, None, None), ("B", B, None, None)]
    source = opened(folder, format="hub", split="test")
    assert read(source) == [("C", C, None, None)]
    assert source.fingerprint() == opened(folder, format="hub", split="test").fingerprint()


def hub(files: dict[str, tuple[str, ...]]) -> MemoryFileSystem:
    """A file system with the parquet files of data sets, each row's picture its caption."""

    class Rootless(MemoryFileSystem):
        """Paths as the hub's own has them, without the leading slash."""

        store, pseudo_dirs, cachable = {}, [""], False

        def find(self, path, **options):
            return [found.lstrip("/") for found in super().find(path, **options)]

    remote = Rootless()
    for path, captions in files.items():
        buffer = io.BytesIO()
        columns = {"image": [{"bytes": c.encode(), "path": None} for c in captions], "caption": list(captions)}
        pq.write_table(pa.table(columns), buffer)
        remote.pipe(path, buffer.getvalue())
    return remote


def captions(remote: MemoryFileSystem, source: str = "o/n", split: str = "train", subset=None, revision=None) -> str:
    table = streamed(source, split, subset, revision, choose_columns, remote)
    source = MediaSource(TableRecords(table, table.choice, Path.cwd()), OneByte())
    return "".join(row[0] for row in read(source))


def test_streamed_shards_of_a_split_in_order():
    remote = hub(
        {
            "datasets/o/n/data/train-00001-of-00002.parquet": ("C",),
            "datasets/o/n/data/train-00000-of-00002.parquet": ("A", "B"),
            "datasets/o/n/data/test-00000-of-00001.parquet": ("T",),
            "datasets/o/n/README.md": ("X",),
            "datasets/o/n@v2/data/train-00000-of-00001.parquet": ("V",),
            "datasets/o/n@a%2Fb/data/train-00000-of-00001.parquet": ("W",),
        }
    )
    assert captions(remote) == "ABC" and captions(remote, split="test") == "T"
    assert captions(remote, revision="v2") == "V" and captions(remote, revision="a/b") == "W"
    table = streamed("o/n", "train", None, None, choose_columns, remote)
    assert table.name(2) == "data/train-00001-of-00002.parquet:0" and table.files == ()
    assert TableRecords(table, table.choice, Path.cwd()).distinct_captions() == 3
    again = streamed("o/n", "train", None, None, choose_columns, remote).fingerprint()
    assert table.fingerprint() == again != streamed("o/n", "test", None, None, choose_columns, remote).fingerprint()
    with pytest.raises(ValueError, match=r"o/n.*val.*data\.split"):
        captions(remote, split="val")


def test_streamed_from_what_the_hub_has_converted_and_from_subsets():
    remote = hub(
        {
            "datasets/o/n@refs/convert/parquet/en/train/0000.parquet": ("A",),
            "datasets/o/n@refs/convert/parquet/de/train/0000.parquet": ("B",),
            "datasets/o/n@refs/convert/parquet/de/partial-test/0000.parquet": ("C",),
            "datasets/o/n/data.csv": ("X",),
        }
    )
    assert captions(remote, subset="de") == "B" and captions(remote, subset="en") == "A"
    with pytest.raises(ValueError, match=r"test.*de"):
        captions(remote, subset="de", split="test")


def test_what_cannot_be_reached_is_told_in_one_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match=r"seppo\[data\]"):
            opened("owner/name", format="hub", streaming=False)
    # tests run offline
    with pytest.raises(OSError, match=r"owner/name.*offline"):
        opened("owner/name", format="hub")
    with pytest.raises(OSError, match="owner/name"):
        opened("owner/name", format="hub", streaming=False)
    with pytest.raises(ValueError, match=r"data\.source=.*owner/name"):
        opened("not an id", format="hub")
