"""What a `data.source` is taken for, and what it is told where it is nothing."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seppo_core.data.discover import _braces, find_source


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "source", "format", "files"),
    [
        (["metadata.jsonl", "a.png", "x.parquet", "other.csv"], "", "folder", ["metadata.jsonl"]),
        (["ChronoMagic.csv", "clips/a.mp4"], "", "folder", ["ChronoMagic.csv"]),
        (["a.csv", "b.csv"], "b.csv", "folder", ["b.csv"]),
        (["data/b.parquet", "data/a.parquet", "README.md"], "", "parquet", ["data/a.parquet", "data/b.parquet"]),
        (["a.parquet", "b.parquet"], "a.parquet", "parquet", ["a.parquet"]),
        (["data/train-0.parquet", "data/test-0.parquet"], "data/train-*", "parquet", ["data/train-0.parquet"]),
        (["x/a.parquet", "y/a.parquet"], "*/a.parquet", "parquet", ["x/a.parquet", "y/a.parquet"]),
        (["00.tar", "01.tar", "02.tar"], "{00..01}.tar", "webdataset", ["00.tar", "01.tar"]),
        (["sub/00.tar"], "", "webdataset", ["sub/00.tar"]),
        (["dataset_dict.json", "train/data.arrow"], "", "hub", []),
        (["state.json", "data.arrow"], "", "hub", []),
    ],
)
def test_what_is_there_is_found(tmp_path, names, source, format, files):
    touch(tmp_path, *names)
    found = find_source(str(tmp_path / source))
    assert (found.format, [str(path.relative_to(tmp_path)) for path in found.files]) == (format, files)
    assert found == find_source(str(tmp_path / source), format)
    assert all(path.is_relative_to(found.root) for path in found.files)


@pytest.mark.parametrize(
    ("names", "source", "format", "message"),
    [
        ([], "", "auto", "has no tables, parquet files or tars; write a metadata.jsonl or metadata.csv with file_name"),
        (["a.png", "b/c.mp4"], "", "auto", "and none of its 2 pictures or clips has a text beside it; write"),
        (["a.tar.gz"], "", "auto", "a.tar.gz is compressed: unpack it to a plain .tar first"),
        (["a.tgz"], "a.tgz", "auto", "unpack it to plain .tar files"),
        (["a.csv"], "", "parquet", "has no files of parquet"),
        (["a.csv", "b.csv"], "", "auto", "has several tables (a.csv, b.csv); name the one that is meant"),
        (["a.csv", "b.parquet"], "", "auto", "could be read as folder or parquet; set data.format to one of them"),
        (["a.parquet", "b.tar"], "", "auto", "could be read as parquet or webdataset"),
        (["a.parquet", "b.tar"], "*", "auto", "matches files of parquet and webdataset; name one kind alone"),
        (["a.csv", "b.csv"], "*.csv", "auto", "matches 2 tables"),
        (["a.tar"], "a.tar", "parquet", "is of data.format webdataset, not parquet; leave data.format out"),
        (["a.zip"], "a.zip", "auto", "a.zip is none of .jsonl, .csv, .tsv, .json, .parquet, .tar"),
        (["pictures/metadata.csv"], "picture", "auto", "is not a folder; did you mean"),
        ([], "x-*.tar", "auto", "matches no file"),
        ([], "{0..2000000}.tar", "auto", "stands for over a million files"),
    ],
)
def test_what_is_not_is_told_in_one_line(tmp_path, names, source, format, message):
    touch(tmp_path, *names)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        find_source(str(tmp_path / source), format)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_id_on_the_hub_is_never_guessed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data\.format=hub"):
        find_source("owner/name")
    assert find_source("owner/name", "hub").files == ()


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 50), st.integers(1, 4))
def test_braces_count_as_webdataset_counts(first, more, width):
    text = f"a-{{{first:0{width}}..{first + more}}}.tar"
    webdataset = pytest.importorskip("braceexpand")
    assert _braces(text) == list(webdataset.braceexpand(text))
    assert _braces("{a,b}-{0..1}") == ["a-0", "a-1", "b-0", "b-1"] and _braces("x") == ["x"]
