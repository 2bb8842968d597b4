"""Folders and tables as other tools, systems and people leave them."""

import json
from pathlib import Path

import pytest

from seppo_core.data.source import BadItem, LeftOut
from tests.data.tables import faults, jsonl, opened, read, write

CAPTIONS = ["one", "two"]
UTF16 = "file_name,caption\na.png,one\nb.png,two\n".encode("utf-16")
LIST = [{"file_name": "a.png", "caption": "one"}, {"file_name": "b.png", "caption": "two"}]
TABLES = {
    "metadata.csv by Excel in Europe": b"\xef\xbb\xbffile_name;caption\r\na.png;one\r\nb.png;two\r\n",
    "metadata.csv with tabs": "file_name\tcaption\na.png\tone\nb.png\ttwo\n",
    "metadata.tsv": "file_name\tcaption\na.png\tone\nb.png\ttwo\n",
    "metadata.csv with bars": "file_name|caption\na.png|one\nb.png|two\n",
    "captions.csv with blanks and quotes": 'image, caption\na.png, "one"\nb.png, two\n',
    "metadata.csv in UTF-16": UTF16,
    "metadata.csv in UTF-16 without a mark": UTF16[2:],
    "metadata.jsonl in UTF-16": "\n".join(map(json.dumps, LIST)).encode("utf-16"),
    "metadata.jsonl as one list": json.dumps(LIST, indent=1),
    "metadata.json": json.dumps(LIST),
    "metadata.json in lines": "\n".join(map(json.dumps, LIST)),
    "meta_cap.json": json.dumps({"a.png": {"caption": "one", "tags": "x"}, "b.png": {"caption": "two"}}),
    "captions.json": json.dumps({"a.png": "one", "b.png": "two"}),
    **{f"metadata.csv with {name}": f"{name},text\na.png,one\nb.png,two\n"
       for name in ("file_path", "image", "img_path", "path", "filename", "Image Path", "FILE_NAME")},
    "metadata.csv with TEXT": "path,TEXT\na.png,one\nb.png,two\n",
    "metadata.csv with backslashes": "file_name,caption\n.\\a.png,one\nb.png,two\n",
}  # fmt: skip


@pytest.mark.parametrize("form", TABLES)
def test_tables_as_they_come(tmp_path, form):
    write(tmp_path, form.split()[0], TABLES[form])
    write(tmp_path, "a.png", "A"), write(tmp_path, "b.png", "B")
    assert read(opened(tmp_path)) == [("one", 65, None, None), ("two", 66, None, None)]


def test_a_table_of_addresses_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"column url .*img2dataset.*data\.first_column"):
        opened(write(tmp_path, "metadata.csv", "url,caption\nx,y\n"))


LEFT = (
    ".DS_Store", "Thumbs.db", "desktop.ini", "._a.png", "__MACOSX/10_cat/._a.png", "__MACOSX/10_cat/a.png",
    ".ipynb_checkpoints/a-checkpoint.png", "10_cat/.ipynb_checkpoints/a-checkpoint.txt", "@eaDir/a.png/SYNOPHOTO.png",
    "10_cat/a.npz", "10_cat/a_flip.npz", "10_cat/meta_lat.json", "10_cat/a-masklabel.png", "_cache/a.safetensors",
    ".aitk_size.json", "aspect_ratio_bucket_indices_x.json", "10_cat/a.json", "README.md", "10_cat/notes.txt",
)  # fmt: skip


def test_captions_beside_pictures_and_what_tools_leave_there(tmp_path, capsys):
    for name in LEFT:
        write((tmp_path / name).parent, Path(name).name, "left")
    files = {
        "a.png": "A", "a.txt": "\ufeff a red wall \r\n", "b.JPG": "B", "b.caption": "b", "c.png": "C", "c.png.txt": "c",
        "d.WEBP": "D", "D.TXT": "d", "e.png": "E", "f.png": "F", "f.txt": b"\xff\xfea\0",
    }  # fmt: skip
    for name, content in files.items():
        write(tmp_path / "10_cat", name, content)
    source = opened(tmp_path)
    assert read(source) == [
        ("a red wall", 65, None, None),
        ("b", 66, None, None),
        ("c", 67, None, None),
        ("d", 68, None, None),
        "no caption: no e.txt or .caption beside it",
        ("a", 70, None, None),
    ]
    assert (
        source.item(0).id == "10_cat/a.png"
        and "folders named as kohya's, with a number of repeats: 1" in capsys.readouterr().err
    )
    before = source.fingerprint()
    write(tmp_path / "10_cat", "b.caption", "another")
    assert opened(tmp_path).fingerprint() != before


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path):
    write(tmp_path / "disk" / "part", "v1.mp4", "A")
    write(tmp_path / "clips", "captions.csv", "videoid,name\nv1,one\nv2,two\n")
    write(tmp_path / "clips" / "here", "v2.mp4", "B")
    for name, target in {"videos": "disk", "again": "disk", "loop": "clips", "nowhere": "gone"}.items():
        (tmp_path / "clips" / name).symlink_to(tmp_path / target)
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "clips")
    source = opened(tmp_path / "clips")
    assert read(source) == [("one", 65, None, None), ("two", 66, None, None)]
    assert [source.item(n).id for n in range(2)] == ["again/part/v1.mp4", "here/v2.mp4"]


def test_a_table_above_its_pictures_finds_them_or_names_the_key(tmp_path, capsys):
    write(tmp_path, "captions.csv", "image, caption\na.png, one\nb.png, two\n")
    write(tmp_path / "images", "a.png", "A"), write(tmp_path / "images", "b.png", "B")
    write(tmp_path / "other", "a.png", "X")
    source = opened(tmp_path)
    assert read(source) == [("one", 65, None, None), ("two", 66, None, None)] and source.item(0).id == "a.png"
    assert f"they are read in {tmp_path / 'images'}" in capsys.readouterr().err
    # of two folders that would do none is taken
    write(tmp_path / "other", "b.png", "Y")
    assert [bad.reason for bad in faults(opened(tmp_path))] == ["no such file"] * 2
    assert "set data.root" in capsys.readouterr().err


@pytest.mark.parametrize("there", ["C:\\data\\set\\", "/home/other/set/"])
def test_names_of_another_machine_are_read_without_its_folders(tmp_path, capsys, there):
    write(tmp_path / "one", "a.png", "A"), write(tmp_path / "two", "a.png", "B")
    slash = there[-1]
    rows = [{"file_name": f"{there}{folder}{slash}a.png", "caption": folder} for folder in ("one", "two")]
    source = opened(jsonl(tmp_path, *rows))
    assert read(source) == [("one", 65, None, None), ("two", 66, None, None)] and source.item(1).id == "two/a.png"
    assert f"without {there.replace(chr(92), '/')} from {tmp_path}" in capsys.readouterr().err
    # not if one of them is not there
    rows.append({"file_name": f"{there}three{slash}a.png", "caption": "x"})
    assert all("leaves the data folder" in bad.reason for bad in faults(opened(jsonl(tmp_path, *rows))))


def test_image_folders_with_a_table_in_the_split(tmp_path, capsys):
    jsonl(write(tmp_path / "train", "a.png", "A"), {"file_name": "a.png", "text": "one"})
    assert read(opened(tmp_path)) == [("one", 65, None, None)]
    jsonl(tmp_path / "validation", {"file_name": "a.png", "text": "one"})
    assert read(opened(tmp_path)) == [("one", 65, None, None)]
    assert "train/metadata.jsonl is read; validation is left" in capsys.readouterr().err
    (tmp_path / "train").rename(tmp_path / "test")
    with pytest.raises(ValueError, match=r"test/metadata\.jsonl, validation/metadata\.jsonl"):
        opened(tmp_path)


@pytest.mark.parametrize("form", ["list", "rows", "lines"])
def test_several_captions_of_a_picture(tmp_path, form):
    write(tmp_path, "a.png", "A"), write(tmp_path, "b.png", "B")
    captions = ["one", "two", "three"]
    if form == "list":
        jsonl(tmp_path, {"file_name": "a.png", "caption": [*captions, "one"]}, {"file_name": "b.png", "caption": ["b"]})
    elif form == "rows":
        rows = [{"file_name": "a.png", "caption": caption} for caption in captions]
        jsonl(tmp_path, rows[0], {"file_name": "b.png", "caption": "b"}, *rows[1:], rows[0])
    else:
        write(tmp_path, "a.txt", "one\r\n\r\n two\nthree\n"), write(tmp_path, "b.txt", "b\n")
    source = opened(tmp_path)
    found = [source.item(n) for n in range(2)]
    assert [(item.caption, item.more) for item in found] == [("one", ("two", "three")), ("b", ())]
    assert source.distinct_captions() == 4
    left = faults(source)[2:]
    kinds = [LeftOut, LeftOut, BadItem] if form == "rows" else []
    assert [type(bad) for bad in left] == kinds and all("line 1" in bad.reason for bad in left)


def test_several_captions_are_in_the_fingerprint(tmp_path):
    write(tmp_path, "a.png", "A")
    found = []
    for captions in ("one", ["one", "two"], ["one", "three"]):
        jsonl(tmp_path, {"file_name": "a.png", "caption": captions})
        found.append(opened(tmp_path).fingerprint())
    assert len(set(found)) == 3
