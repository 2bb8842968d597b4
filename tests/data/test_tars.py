"""webdataset tars: as the library itself writes and reads them, and what hostile or damaged ones get."""

import gc
import io
import json
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seppo_core.data.source import LeftOut, SourceLost
from seppo_core.data.tar_index import Member, TarDamage, read_members
from tests.data.tables import faults, opened, read

A, B = 65, 66
Members = list[tuple[str, bytes] | tarfile.TarInfo]


def tar(path: Path, *members: tuple[str, bytes | str | dict] | tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            content = json.dumps(content) if isinstance(content, dict) else content
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_captions_in_text_json_and_class_files(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        ("0001.jpg", b"A"), ("0001.txt", " one \n"),
        ("sub/0002.json", {"caption": "two"}), ("sub/0002.PNG", b"B"),
        ("0003.webp", b"C"), ("0003.cls", "three"),
        ("0004.extra.txt", "not this"), ("0004.mp4", b"D"), ("0004.json", {"prompt": "4"}), ("0004.txt", "text first"),
        ("0005.gif", b"E"), ("0005.json", {"x": 1}),
        ("0006.txt", "no picture"),
        ("README", "no extension"), (".hidden.jpg", b"X"),
    )  # fmt: skip
    source = opened(path)
    assert read(source) == [
        ("one", A, None, None),
        ("two", B, None, None),
        ("three", 67, None, None),
        ("text first", 68, None, None),
        "no caption; looked for caption, text, prompt",
        "no picture or clip; it has txt",
    ]
    assert (source.item(1).id, source.item(1).file) == ("a.tar/sub/0002", "a.tar/sub/0002.png")


@pytest.mark.parametrize("names", [("0.jpg", "1.jpg"), ("jpg_0", "jpg_1"), ("1.png", "0.png")])
def test_pairs_with_verdicts_in_json(tmp_path, names):
    verdicts = [1, 0, 0.5, None, True]
    members = []
    for number, verdict in enumerate(verdicts):
        key = f"{number:04}"
        members += [(f"{key}.{names[0]}", b"A"), (f"{key}.{names[1]}", b"B")]
        members.append((f"{key}.json", {"label_0": verdict, "caption": key}))
    path = tar(tmp_path / "shards" / "x-000.tar", *members, ("0009.0.jpg", b"A"), ("0009.json", {"label_0": 1}))
    first, second = (A, B) if "0" in names[0] else (B, A)
    source = opened(f"{path.parent}/x-{{000..003}}.tar", supervision="pairs")
    assert read(source) == [
        ("0000", first, second, None),
        ("0001", second, first, None),
        "tie",
        "label_0 'None' is not 1, 0 or 0.5",
        ("0004", first, second, None),
        "no pair such as 0.jpg and 1.jpg; it has 0.jpg, json",
    ]
    assert isinstance(faults(source)[2], LeftOut)
    assert source.item(1).file == f"x-000.tar/0001.{max(names)}"
    assert read(opened(path, supervision="labels"))[:2] == [("0000", first, None, True), ("0000", second, None, False)]


def test_labels_and_other_keys_of_the_json(tmp_path):
    members = [("1.jpg", b"A"), ("1.json", {"text": "x", "label": 1}), ("2.jpg", b"B"), ("2.json", {"label": False})]
    path = tar(tmp_path / "a.tar", *members, ("2.txt", "y"))
    assert read(opened(path, supervision="labels")) == [("x", A, None, True), ("y", B, None, False)]
    assert read(opened(path)) == [("x", A, None, None), "labelled bad"]
    path = tar(tmp_path / "a.tar", ("1.jpg", b"A"), ("1.json", {"words": "x", "fine": 0}))
    assert read(opened(path, supervision="labels", caption_column="words", label_column="fine")) == [
        ("x", A, None, False)
    ]
    with pytest.raises(ValueError, match=r"data\.first_column.*data\.second_column"):
        opened(path, first_column="jpg")
    with pytest.raises(ValueError, match=r"winners.*labels"):
        opened(path, supervision="labels")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_webdataset_writes_is_read_as_it_reads_it(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    samples = [
        {"__key__": f"dir.d/{number:05}", "0.jpg": bytes([number]), "txt": f"caption {number}", "json": {"a": number}}
        for number in range(1, 40)
    ]
    samples = [{key.replace("0.jpg", "jpg"): value for key, value in sample.items()} for sample in samples]
    with webdataset.ShardWriter(str(tmp_path / "w-%03d.tar"), maxcount=10, verbose=0) as writer:
        for sample in samples:
            writer.write(sample)
    theirs = webdataset.WebDataset(str(tmp_path / "w-{000..003}.tar"), shardshuffle=False)
    expected = [(sample["__key__"], sample["txt"].decode(), sample["jpg"][0]) for sample in theirs]
    # it leaves its files to the collector, which must come by while that is ignored
    del theirs
    gc.collect()
    source = opened(tmp_path)
    found = [source.item(position) for position in range(len(source))]
    assert [(i.id.split(".tar/")[1], i.caption, int(i.views["winner"].pixels[0, 0, 0])) for i in found] == expected
    assert len(found) == 39 and found[12].id == "w-001.tar/dir.d/00013"


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("/etc/0001.jpg", b"X"), "its name points out of the archive"),
        (("../0001.jpg", b"X"), "its name points out of the archive"),
        (("a/../../0001.jpg", b"X"), "its name points out of the archive"),
        (("C:\\0001.jpg", b"X"), "its name points out of the archive"),
        (special("0001.jpg", tarfile.SYMTYPE, "/etc/passwd"), "it is a symbolic link, only plain files are read"),
        (special("0001.jpg", tarfile.LNKTYPE, "0000.jpg"), "it is a hard link"),
        (special("0001.jpg", tarfile.CHRTYPE), "it is a device"),
        (special("0001.jpg", tarfile.BLKTYPE), "it is a device"),
        (special("0001.jpg", tarfile.FIFOTYPE), "it is a pipe"),
        (special("0001.jpg", tarfile.GNUTYPE_SPARSE), "it is a sparse file"),
        (special("0001.jpg", b"Z"), "it is of the unknown type"),
    ],
)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_with_tricks_are_refused_and_end_no_run(tmp_path, member, reason, form):
    good = [("0000.jpg", b"A"), ("0000.txt", "a")], [("0002.jpg", b"B"), ("0002.txt", "b")]
    folder = special("0001", tarfile.DIRTYPE)
    source = opened(tar(tmp_path / "a.tar", *good[0], folder, member, *good[1], form=form))
    found = read(source)
    assert (found[0], found[2]) == (("a", A, None, None), ("b", B, None, None)) and len(found) == 3
    assert found[1].startswith("refused: ") and reason in found[1]


def test_pax_headers_are_heeded_and_limited(tmp_path):
    long = "d/" * 200 + "0000"
    path = tar(tmp_path / "a.tar", (f"{long}.jpg", b"A"), (f"{long}.txt", "é"), ("ü.jpg", b"B"), ("ü.txt", "b"))
    assert read(opened(path)) == [("é", A, None, None), ("b", B, None, None)]
    assert opened(path).item(1).id == "a.tar/ü"
    assert read(opened(tar(path, (f"{long}.jpg", b"A"), (f"{long}.txt", "é"), form=tarfile.GNU_FORMAT)))[0][0] == "é"
    huge = special("x", tarfile.XHDTYPE)
    huge.size = 2 * 1024**2
    header = huge.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(header + bytes(4 * 1024**2))
    with pytest.raises(TarDamage, match="2,097,152"):
        list(read_members(path))
    for record in (b"9" * 5000 + b" path=a\n", b"0 path=a\n", b"x path=a\n", b"99 path=a\n", b"path"):
        odd = special("x", tarfile.XHDTYPE)
        odd.size = len(record)
        path.write_bytes(odd.tobuf(tarfile.USTAR_FORMAT) + record.ljust(-(-len(record) // 512) * 512, b"\0"))
        with pytest.raises(TarDamage, match="header"):
            list(read_members(path))
    for size in ("9" * 30, "-1", "x"):
        odd = tarfile.TarInfo("0.jpg")
        odd.pax_headers = {"size": size}
        with pytest.raises(TarDamage, match=r"'0\.jpg'.*-1"):
            list(read_members(tar(path, odd)))
    sparse = tarfile.TarInfo("0000.jpg")
    sparse.pax_headers = {"GNU.sparse.major": "1"}
    assert "it is a sparse file" in read(opened(tar(path, sparse, ("1.jpg", b"A"), ("1.txt", "a"))))[0]


@pytest.mark.parametrize("form", ["gz", "bz2", "xz"])
def test_compressed_archives_are_refused_with_the_cure(tmp_path, form):
    plain = tar(tmp_path / "sub" / "a.tar", ("0.jpg", b"A"), ("0.txt", "a"))
    with tarfile.open(tmp_path / f"b.tar.{form}", f"w:{form}") as archive:
        archive.add(plain, "x")
    with pytest.raises(ValueError, match=r"unpack .*\.tar"):
        opened(tmp_path / f"b.tar.{form}")
    (tmp_path / f"b.tar.{form}").rename(tmp_path / "b.tar")
    reasons = [bad and bad.reason for bad in faults(opened(tmp_path))]
    assert reasons[1] is None and "compressed" in reasons[0]


def test_a_tar_that_is_cut_off_keeps_what_is_whole(tmp_path, capsys):
    members = [(f"{n}.{s}", c) for n in range(9) for s, c in (("jpg", bytes([n + 1]) * 600), ("txt", f"{n}"))]
    path = tar(tmp_path / "a.tar", *members)
    whole = path.read_bytes()
    # a picture takes three blocks, a caption two
    path.write_bytes(whole[: 4 * 5 * 512 + 1000])
    source = opened(path)
    found = read(source)
    assert [row[0] for row in found[:4]] == list("0123") and len(found) == 5
    assert found[4] == "cut off or damaged after 8 files: '4.jpg' claims 600 bytes" and "a.tar is left" in str(
        capsys.readouterr().err
    )
    path.write_bytes(whole[: 4 * 5 * 512])
    assert read(opened(path))[4] == "it ends after 8 files without an end mark; it may be cut off"


def test_odd_samples_are_bad_rows(tmp_path):
    members = [
        ("0.jpg", b"A"), ("0.txt", "a"), ("0.jpg", b"B"),
        ("1.jpg", b"A"), ("1.json", "{broken"),
        ("2.jpg", b"A"), ("2.txt", b"\xff"),
        ("3.jpg", b"A"), ("3.txt", b"x" * (1024**2 + 1)),
        ("4.jpg", b"A" * 1001), ("4.txt", "a"),
        ("5.jpg", b""), ("5.txt", "a"),
        ("6.jpg", b"A"), ("6.txt", "a"), ("7.jpg", b"A"), ("7.txt", "a"), ("6.jpg", b"A"), ("6.txt", "again"),
    ]  # fmt: skip
    found = read(opened(tar(tmp_path / "a.tar", *members)))
    assert "jpg" in found[0] and "json" in found[1]
    assert found[2:6] == [
        "its txt is not UTF-8 text",
        "its txt has 1,048,577 bytes, over the limit of 1,048,576",
        "1,001 bytes are over the limit of 1,000 (data.max_file_mb)",
        "cannot be read: it is empty",
    ]
    assert found[6:] == [("a", A, None, None)] * 2 + ["there twice: an earlier sample has the same key"]


def test_threads_and_changes(tmp_path):
    members = [(f"{n:03}.{s}", c) for n in range(99) for s, c in (("jpg", bytes([n + 1])), ("txt", f"{n}"))]
    path = tar(tmp_path / "a.tar", *members)
    source = opened(path)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: source.item(i).caption, range(99))) == [f"{i}" for i in range(99)]
    assert source.fingerprint() == opened(path).fingerprint() != opened(path, supervision="winners", max_file_mb=1).form
    before = source.fingerprint()
    tar(path, *members[:-1], ("098.txt", "99"))
    assert opened(path).fingerprint() != before
    with pytest.raises(SourceLost, match="was changed"):
        source.item(0)


names = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,60}){0,3}\.[a-z0-9.]{1,6}", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=8),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
@example([("a/" * 90 + "x.jpg", b"1")], tarfile.GNU_FORMAT)
def test_members_lie_where_tarfile_finds_them(tmp_path_factory, members, form):
    path = tar(tmp_path_factory.mktemp("t") / "a.tar", *members, form=form)
    content = path.read_bytes()
    found = [(member.name, content[member.start : member.start + member.size]) for member in read_members(path)]
    with tarfile.open(path) as archive:
        assert found == [(info.name, archive.extractfile(info).read()) for info in archive.getmembers()] == members


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_hangs_or_crashes_the_scan(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.tar"
    members = [(f"{'d/' * 60 * (n == 1)}{n}.{s}", b"x" * 700) for n in range(3) for s in ("jpg", "txt")]
    content = bytearray(tar(path, *members).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert len(list(read_members(path))) <= len(content) // 512
    except TarDamage as damage:
        assert "\n" not in str(damage)


def test_what_lies_behind_zero_blocks_and_damage_is_read_on_and_said(tmp_path, capsys):
    def members(*numbers: int) -> Members:
        return [(f"{n}.{suffix}", c) for n in numbers for suffix, c in (("jpg", bytes([n + 1]) * 600), ("txt", f"{n}"))]

    one, two = (tar(tmp_path / "parts" / f"{n}.tar", *members(n, n + 1)).read_bytes() for n in (0, 2))
    path = tmp_path / "a.tar"
    path.write_bytes(one + two)
    rows = [(f"{n}", n + 1, None, None) for n in range(4)]
    assert read(opened(path)) == rows
    # GNU tar's --ignore-zeros, by Python's own reader
    with tarfile.open(path, ignore_zeros=True) as archive:
        found = [(info.name, info.offset_data, info.size, None) for info in archive.getmembers()]
    assert [member for member in read_members(path) if isinstance(member, Member)] == found
    said = capsys.readouterr().err
    assert re.search(r"a\.tar: [\d,]+ zero bytes .* after 1\.txt; read on behind them, 2 samples more", said)

    # a sample takes five blocks: the second picture's header and content are zeros now, then its header alone
    whole = tar(path, *members(0, 1, 2)).read_bytes()
    path.write_bytes(whole[: 5 * 512] + bytes(3 * 512) + whole[8 * 512 :])
    assert read(opened(path)) == [rows[0], "no picture or clip; it has txt", rows[2]]
    for header in (bytes(512), b"\xaa" * 512):
        path.write_bytes(whole[: 5 * 512] + header + whole[6 * 512 :])
        found = read(opened(path))
        assert (found[0], found[-1], len(found)) == (rows[0], rows[2], 4)
        assert found[1].startswith("damaged after 2 files") and "samples more" in capsys.readouterr().err
    path.write_bytes(one + b"\xaa" * 700)
    assert read(opened(path))[2] == "damaged after 4 files: zero bytes, then no header"
