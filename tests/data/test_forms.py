"""Winners, pairs and labels of a folder's table, and what each can be read as."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seppo_core.data.source import LeftOut
from tests.data.tables import faults, jsonl, opened, read, source_of, write


def folder(path: Path) -> Path:
    for name in "ABCD":
        write(path, f"{name}.png", name)
    return path


def csv_of(path: Path, *lines: str) -> Path:
    return write(path, "metadata.csv", "\n".join(lines) + "\n")


A, B, C, D = 65, 66, 67, 68


@pytest.fixture
def judged(tmp_path) -> Path:
    """Three pairs by verdict: the first won, the second, neither."""
    rows = [("A", "B", 1), ("C", "D", 0), ("A", "D", 0.5)]
    return jsonl(
        folder(tmp_path),
        *(
            {"file_name_0": f"{a}.png", "file_name_1": f"{b}.png", "label_0": v, "caption": f"{a}{b}"}
            for a, b, v in rows
        ),
    )


def test_pairs_by_verdict_and_ties_left_out(judged):
    source = source_of(judged, 1, 1, form="pairs")
    assert source.form == "pairs" and len(source) == 3
    assert read(source) == [("AB", A, B, None), ("CD", D, C, None), "tie"]
    assert isinstance(faults(source)[2], LeftOut)
    item = source.item(1)
    assert (item.file, item.id) == ("D.png", "C.png D.png") and item.views["loser"].crop == item.views["winner"].crop


def test_pairs_serve_as_winners_and_as_labels(judged):
    assert read(source_of(judged, 1, 1)) == [("AB", A, None, None), ("CD", D, None, None), "tie"]
    labels = source_of(judged, 1, 1, form="labels")
    assert len(labels) == 6
    good, bad = [("AB", A, None, True), ("CD", D, None, True)], [("AB", B, None, False), ("CD", C, None, False)]
    assert read(labels) == [good[0], bad[0], good[1], bad[1], "tie", "tie"]
    assert len({labels.item(i).id for i in range(4)}) == 4
    assert labels.item(1).file == "B.png"


def test_a_random_winner_depends_on_seed_and_row_alone(tmp_path):
    pairs = [f"{first}.png,{second}.png,x" for first in "ABCD" for second in "ABCD" if first != second]
    path = csv_of(folder(tmp_path), "file_name,loser_file_name,caption", *pairs)

    def drawn(seed: int) -> dict[str, str]:
        source = source_of(path, 1, 1, pick="random", seed=seed)
        return {(item := source.item(i)).id: item.file for i in range(len(source))}

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert first == again and first != other
    won = sum(file == identity.split()[0] for identity, file in first.items())
    assert 1 < won < 11 and all(file in identity.split() for identity, file in first.items())
    csv_of(path, "file_name,loser_file_name,caption", *reversed(pairs))
    assert drawn(0) == first
    fingerprints = {source_of(path, 1, 1, **how).fingerprint() for how in ({}, {"pick": "random"}, {"form": "pairs"})}
    assert len(fingerprints | {source_of(path, 1, 1, pick="random", seed=1).fingerprint()}) == 4


@pytest.mark.parametrize("spelled", [("true", "false"), ("True", "FALSE"), ("1", "0"), (" 1.0 ", "0.0")])
def test_labels_of_csv(tmp_path, spelled):
    path = csv_of(folder(tmp_path), "file_name,text,label", f"A.png,a,{spelled[0]}", f"B.png,b,{spelled[1]}")
    assert read(source_of(path, 1, 1, form="labels")) == [("a", A, None, True), ("b", B, None, False)]
    winners = source_of(path, 1, 1)
    assert read(winners) == [("a", A, None, None), "labelled bad"] and isinstance(faults(winners)[1], LeftOut)


@pytest.mark.parametrize("label", [None, "yes", 2, [1], float("nan"), 0.5])
def test_verdicts_that_are_none_are_bad_rows(tmp_path, label):
    rows = [{"file_name": "A.png", "caption": "a", "label": True}, {"file_name": "B.png", "caption": "b"}]
    path = jsonl(folder(tmp_path), rows[0], json.dumps({**rows[1], "label": label}))
    first, reason = read(source_of(path, 1, 1, form="labels"))
    assert first == ("a", A, None, True) and "is not true or false, 1 or 0" in reason
    pair = {"file_name_0": "A.png", "file_name_1": "B.png", "caption": "a"}
    path = jsonl(tmp_path, {**pair, "label_0": 1}, json.dumps({**pair, "caption": "b", "label_0": label}))
    assert label == 0.5 or "is not 1, 0 or 0.5" in faults(source_of(path, 1, 1, form="pairs"))[1].reason


def test_either_half_of_a_pair_can_spoil_it_and_is_named(tmp_path):
    rows = ["A.png,gone.png,x", "../A.png,B.png,x", "A.png,,x", "A.png,B.png,x", "A.png,B.png,y", "B.png,A.png,z"]
    path = csv_of(folder(tmp_path), "file_name,loser_file_name,caption", *rows)
    found = [bad and (bad.file, bad.reason.split(";")[0]) for bad in faults(source_of(path, 1, 1, form="pairs"))]
    assert found == [
        ("gone.png", "no such file"),
        ("../A.png", "file_name leaves the data folder"),
        ("line 4", "no loser_file_name"),
        None,
        ("A.png B.png", "named twice, first on line 5 of metadata.csv"),
        None,
    ]
    (path / "B.png").write_bytes(b"")
    assert faults(source_of(path, 1, 1, form="pairs"))[3].file == "B.png"


def test_data_of_another_form_are_refused(tmp_path, judged):
    with pytest.raises(ValueError, match=r"data\.pick=random"):
        source_of(judged, 1, 1, form="pairs", pick="random")
    labelled = jsonl(write(tmp_path / "l", "A.png", "A"), {"file_name": "A.png", "caption": "a", "label": 1})
    winners = jsonl(write(tmp_path / "w", "A.png", "A"), {"file_name": "A.png", "caption": "a"})
    with pytest.raises(ValueError, match=r"labels.*pairs.*data\.supervision=labels or winners"):
        source_of(labelled, 1, 1, form="pairs")
    for form in ("pairs", "labels"):
        with pytest.raises(ValueError, match=rf"{form}.*data\.supervision=winners"):
            source_of(winners, 1, 1, form=form)


def test_columns_of_other_names(tmp_path):
    path = csv_of(folder(tmp_path), "good,poor,words,better", "A.png,B.png,x,0", "C.png,D.png,y,1")
    names = {"first_column": "good", "second_column": "poor", "caption_column": "words"}
    assert read(opened(path, supervision="pairs", **names)) == [("x", A, B, None), ("y", C, D, None)]
    assert read(opened(path, supervision="pairs", label_column="better", **names))[0] == ("x", B, A, None)
    labels = opened(path, supervision="labels", first_column="poor", caption_column="words", label_column="better")
    assert read(labels) == [("x", B, None, False), ("y", D, None, True)]
    with pytest.raises(ValueError, match=r"worse.*\['good', 'poor', 'words', 'better'\]"):
        opened(path, first_column="good", second_column="worse")
    with pytest.raises(ValueError, match=r"data\.caption_column"):
        opened(path, first_column="good")
    with pytest.raises(ValueError, match=r"data\.first_column"):
        opened(path, second_column="poor")


def test_a_table_of_files_that_lie_elsewhere(tmp_path):
    folder(tmp_path / "files")
    table = write(
        tmp_path / "tables", "x.csv", f"file_name,caption\nA.png,a\n{tmp_path}/files/B.png,b\n/etc/passwd,c\n"
    )
    found = read(opened(table / "x.csv", root=str(tmp_path / "files")))
    assert found[:2] == [("a", A, None, None), ("b", B, None, None)] and "leaves the data folder" in found[2]
    # the folder's only table needs no name
    assert read(opened(table, root=str(tmp_path / "files"))) == found
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*nowhere"):
        opened(table, root=str(tmp_path / "nowhere"))


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=12).filter(
    lambda text: text.strip()
)


@settings(max_examples=60, deadline=None)
@given(st.lists(cells, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_any_caption_comes_back_from_both_tables(tmp_path_factory, captions, blank_lines, bom):
    import csv
    import io

    path = folder(tmp_path_factory.mktemp("t"))
    files = []
    for number in range(len(captions)):
        write(path, f"{number}", chr(number + 65))
        files.append(f"{number}")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["caption", "file_name"])
    for file, caption in zip(files, captions, strict=True):
        writer.writerow([caption, file])
        if blank_lines:
            buffer.write("\r\n")
    write(path, "metadata.csv", ("\ufeff" if bom else "") + buffer.getvalue())
    expected = [(caption.strip(), 65 + number, None, None) for number, caption in enumerate(captions)]
    assert read(source_of(path, 1, 1)) == expected
    (path / "metadata.csv").unlink()
    rows = [{"file_name": file, "caption": caption} for file, caption in zip(files, captions, strict=True)]
    assert read(source_of(jsonl(path, *rows), 1, 1)) == expected


def test_a_table_that_is_changed_under_way_is_an_error_not_a_bad_item(tmp_path):
    path = jsonl(folder(tmp_path), {"file_name": "A.png", "caption": "a"})
    source = source_of(path, 1, 1)
    jsonl(path, {"file_name": "A.png", "caption": "another"})
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        source.item(0)


def test_large_files_are_refused_unread(tmp_path):
    path = jsonl(write(tmp_path, "A.png", b"A" * 1001), {"file_name": "A.png", "caption": "a"})
    assert read(source_of(path, 1, 1)) == ["1,001 bytes are over the limit of 1,000 (data.max_file_mb)"]
