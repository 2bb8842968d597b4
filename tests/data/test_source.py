import json
import re
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seppo_core.data.source import BadItem
from seppo_core.models.crop import cover_crop
from tests.data.tables import faults, jsonl, opened, problems, source_of, write


@pytest.mark.parametrize("column", ["caption", "text", "prompt"])
@pytest.mark.parametrize("table", ["jsonl", "csv"])
def test_tables_of_both_forms_and_the_usual_captions(tmp_path, column, table):
    write(tmp_path / "sub", "a.png", "A")
    write(tmp_path, "b.png", "B")
    if table == "jsonl":
        jsonl(tmp_path, {"file_name": "sub/a.png", column: " a, red\nbox "}, "", {"file_name": "b.png", column: "é"})
    else:
        write(
            tmp_path, "metadata.csv", f'\ufefffile_name,n,{column}\r\nsub/a.png,1," a, red\nbox "\r\n\r\nb.png,2,é\r\n'
        )
    source = source_of(tmp_path, 1, 1)
    assert [(source.item(i).file, source.item(i).caption) for i in range(2)] == [
        ("sub/a.png", "a, red\nbox"),
        ("b.png", "é"),
    ]
    assert source.item(1).id == "b.png" and source.item(1).views["winner"].pixels.flatten().tolist() == [66] * 3


@pytest.mark.parametrize(
    ("row", "file", "reason"),
    [
        ('{"file_name": "a.png", ', "line 2", "not a line of JSON"),
        ("[1, 2]", "line 2", "not a JSON object"),
        ({"caption": "a"}, "line 2", "no file_name"),
        ({"file_name": 7, "caption": "a"}, "line 2", "file_name 7 is not text"),
        ({"file_name": "a.png"}, "a.png", "no caption; looked for caption"),
        ({"file_name": "a.png", "caption": None}, "a.png", "no caption"),
        ({"file_name": "a.png", "caption": ["a", 7]}, "a.png", "is not text"),
        ({"file_name": "a.png", "caption": [" "]}, "a.png", "empty caption"),
        ({"file_name": "a.png", "caption": " \t"}, "a.png", "empty caption"),
        ({"file_name": "missing.png", "caption": "a"}, "missing.png", "no such file"),
        ({"file_name": ".", "caption": "a"}, ".", "no such file"),
        ({"file_name": "./first.png", "caption": "a"}, "first.png", "another caption of what line 1 names"),
        (
            {"file_name": "./first.png", "caption": "first"},
            "first.png",
            "named twice, first on line 1 of metadata.jsonl",
        ),
        ({"file_name": "/etc/passwd", "caption": "a"}, "/etc/passwd", "leaves the data folder"),
        ({"file_name": "x/../../a.png", "caption": "a"}, "x/../../a.png", "leaves the data folder"),
        ({"file_name": "..\\a.png", "caption": "a"}, "..\\a.png", "leaves the data folder"),
        ({"file_name": "C:\\a.png", "caption": "a"}, "C:\\a.png", "leaves the data folder"),
        ({"file_name": "a\0.png", "caption": "a"}, "a\0.png", "leaves the data folder"),
        ({"file_name": "a" * 300, "caption": "a"}, "a" * 300, "cannot be looked up"),
    ],
)
def test_a_bad_row_is_rejected_alone(tmp_path, row, file, reason):
    write(tmp_path, "a.png", "A"), write(tmp_path, "first.png", "F"), write(tmp_path, "last.png", "L")
    first, last = ({"file_name": f"{name}.png", "caption": name} for name in ("first", "last"))
    source = source_of(jsonl(tmp_path, first, row, last), 1, 1)
    assert len(source) == 3 and source.item(2).caption == "last" and source.item(0).caption == "first"
    with pytest.raises(BadItem) as bad:
        source.item(1)
    assert bad.value.file == file and reason in bad.value.reason


def captions_of(folder: Path, form: str, captions: list[str]) -> Path:
    """The same captions, half characters and all, as each of the sources would hold them."""
    surrogates = [caption.encode("utf-8", "surrogatepass") for caption in captions]
    for number in range(len(captions)):
        write(folder, f"{number}.png", "A")
    rows = [{"file_name": f"{number}.png", "caption": caption} for number, caption in enumerate(captions)]
    if form == "jsonl":
        return jsonl(folder, *rows)
    if form == "csv":
        lines = b"".join(b"%d.png,%s\n" % pair for pair in enumerate(surrogates))
        return write(folder, "metadata.csv", b"file_name,caption\n" + lines)
    if form == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        binary = pa.array(surrogates, pa.binary())
        text = pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())
        pq.write_table(
            pa.table({"file_name": [row["file_name"] for row in rows], "caption": text}), folder / "a.parquet"
        )
        return folder
    with tarfile.open(folder / "a.tar", "w") as archive:
        for number, row in enumerate(rows):
            about = surrogates[number] if form == "txt" else json.dumps(row).encode()
            for name, content in ((f"{number}.png", b"A"), (f"{number}.{form}", about)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, BytesIO(content))
    return folder


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "json", "txt"])
def test_half_a_character_in_a_caption_is_one_bad_row(tmp_path, form):
    source = opened(captions_of(tmp_path, form, ["a wall", "half a cat \ud83d", "é 🐈"]))
    found = faults(source)
    assert [bad is None for bad in found] == [True, False, True] and source.item(2).caption == "é 🐈"
    assert re.search("surrogate|UTF-8", found[1].reason) and re.search(r"\b[13](.png)?$", found[1].file)
    # what is noted about it can be written
    json.dumps([found[1].file, found[1].reason], ensure_ascii=False).encode()
    assert source.fingerprint() and source.distinct_captions() in (None, 2)


def test_bytes_that_are_no_text_are_one_bad_line(tmp_path):
    write(tmp_path / "jsonl", "metadata.jsonl", b'{"file_name": "\xff"}\n{"file_name": "a", "caption": "b"}')
    rows = problems(tmp_path / "jsonl")
    assert "not a line of JSON" in rows[0].reason
    jsonl(tmp_path / "name", {"file_name": "\ud83d.png", "caption": "a"})
    assert problems(tmp_path / "name")[0].file == "\\ud83d.png"
    write(tmp_path / "csv", "metadata.csv", b"file_name,caption\na.png,\xff\nb.png,b\n")
    assert [row.reason[:14] for row in problems(tmp_path / "csv")] == ["not UTF-8 text", "no such file"]


def test_csv_rows_of_another_width_are_rejected_and_broken_quotes_are_an_error(tmp_path):
    rows = problems(write(tmp_path, "metadata.csv", "file_name,caption\na.png,red, box\nb.png\n"))
    assert [(row.file, row.reason.split(";")[0]) for row in rows] == [
        ("a.png", "line 2 has 3 columns, the header 2"),
        ("b.png", "line 3 has 1 columns, the header 2"),
    ]
    with pytest.raises(ValueError, match=r"metadata\.csv, line 3"):
        problems(write(tmp_path / "quotes", "metadata.csv", 'file_name,caption\na.png,"red\nb.png,x\n'))


def test_tables_that_cannot_be_used_are_errors_that_name_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.source=.*nowhere"):
        problems(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"metadata\.jsonl.*metadata\.csv"):
        problems(tmp_path)
    with pytest.raises(ValueError, match=r"\['picture', 'caption'\].*file_name"):
        problems(write(tmp_path / "a", "metadata.csv", "picture,caption\na,b\n"))
    with pytest.raises(ValueError, match=r"has no rows"):
        problems(write(tmp_path / "b", "metadata.csv", ""))
    with pytest.raises(ValueError, match="has no rows"):
        problems(write(tmp_path / "c", "metadata.csv", "file_name,caption\n"))
    with pytest.raises(ValueError, match=r"metadata\.jsonl.*metadata\.csv"):
        problems(jsonl(write(tmp_path / "d", "metadata.csv", "file_name,caption\n"), {}))


def test_the_fingerprint_follows_files_captions_and_size(tmp_path):
    def fingerprint(caption: str = "a", content: str = "A", size: int = 1) -> str:
        write(tmp_path, "a.png", content)
        return source_of(jsonl(tmp_path, {"file_name": "a.png", "caption": caption}), size, size).fingerprint()

    assert fingerprint() == fingerprint()
    assert len({fingerprint(), fingerprint(caption="b"), fingerprint(content="AA"), fingerprint(size=2)}) == 4


def test_a_folder_that_vanishes_is_an_error_not_a_bad_item(tmp_path):
    folder = jsonl(write(tmp_path / "data", "a.png", "A"), {"file_name": "a.png", "caption": "a"})
    source = source_of(folder, 1, 1)
    (folder / "a.png").unlink()
    with pytest.raises(BadItem, match="no such file"):
        source.item(0)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        source.item(0)


sizes = st.integers(1, 60)


@given(sizes, sizes, sizes, sizes)
def test_the_crop_covers_the_target_and_is_central(height, width, target_height, target_width):
    pixels, framing = cover_crop(Image.new("RGB", (width, height), (10, 200, 30)), target_height, target_width)
    assert pixels.shape == (target_height, target_width, 3) and (pixels == [10, 200, 30]).all()
    scale = max(target_height / height, target_width / width)
    assert (framing.original_height, framing.original_width) == (height, width)
    assert (framing.height, framing.width) == (target_height, target_width)
    # what is left over is shared by both sides, to a pixel of the source
    for corner, side, target in [(framing.top, height, target_height), (framing.left, width, target_width)]:
        assert abs(corner - (side * scale - target) / 2) <= scale + 1


def test_a_pure_crop_keeps_every_byte_and_shrinking_averages():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    assert (cover_crop(Image.fromarray(pixels), 12, 17)[0] == pixels).all()
    found, framing = cover_crop(Image.fromarray(pixels), 12, 12)
    assert (found == pixels[:, 2:14]).all() and (framing.top, framing.left) == (0, 2)
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert abs(cover_crop(Image.fromarray(stripes), 8, 8)[0].astype(float) - 127.5)[:, 1:-1].max() < 2


def test_a_long_strip_is_never_blown_up_as_a_whole():
    pixels, framing = cover_crop(Image.new("RGB", (100_000, 1)), 256, 256)
    assert pixels.shape == (256, 256, 3) and framing.left == pytest.approx(100_000 * 128, rel=0.01)
