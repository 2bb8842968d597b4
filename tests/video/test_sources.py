"""Clips by ChronoMagic's tables, and clips inside archives and shards."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seppo_core.data.filename_index import FilenameIndex
from seppo_core.data.source import BadItem
from seppo_video.data import Clips
from seppo_video.frames import open_clip, read_frames, write_clip
from tests.data.tables import faults, opened
from tests.data.test_tars import tar
from tests.video.clips import encode, moving


def chronomagic(path: Path, *rows: tuple[str, str]) -> Path:
    """The columns of ChronoMagic's published table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("videoid", "name"), *rows])
    return path


def test_chronomagic_finds_clips_anywhere_under_the_folder(tmp_path):
    write_clip(tmp_path / "part1" / "3d_printing_19.mp4", moving(8), fps=8)
    write_clip(tmp_path / "part2" / "deep" / "blooming_02.mp4", moving(9), fps=8)
    write_clip(tmp_path / "part2" / "twice.mp4", moving(2), fps=8)
    write_clip(tmp_path / "part1" / "twice.mp4", moving(2), fps=8)
    caption = 'Time-lapse of a 3D printing process, starting from the plate: "done", they say.'
    rows = [("3d_printing_19", caption), ("blooming_02.mp4", "A flower\nopens"), ("gone", "x"), ("twice", "y")]
    chronomagic(tmp_path / "ChronoMagic.csv", *rows, ("", "z"), ("../part1/3d_printing_19", "z"))
    source = opened(tmp_path, Clips(32, 48, 8))
    item = source.item(0)
    assert (item.id, item.caption) == ("part1/3d_printing_19.mp4", caption)
    assert (item.views["winner"].pixels.permute(1, 2, 3, 0).numpy() == moving(8)).all()
    assert (source.item(1).file, source.item(1).caption) == ("part2/deep/blooming_02.mp4", "A flower\nopens")
    assert [bad.reason for bad in faults(source)[2:]] == [
        "no such file: no gone.mp4 anywhere under the folder",
        "there twice: part1/twice.mp4 and part2/twice.mp4; keep the one that is meant",
        "no videoid",
        "no such file: no ../part1/3d_printing_19.mp4 anywhere under the folder",
    ]
    # the table may lie apart from the clips, and have more columns
    table = tmp_path / "tables" / "Captions_ChronoMagic-Bench-150.csv"
    table.parent.mkdir()
    table.write_text("videoid,name,sub_category,main_category\nblooming_02,a flower,plant,biological\n")
    apart = opened(table, Clips(32, 48, 8), root=str(tmp_path))
    assert (len(apart), apart.item(0).caption) == (1, "a flower")


@pytest.mark.parametrize(("first", "second", "chosen"), [(".gif", ".mp4", ".mp4"), (".webm", ".gif", ".webm")])
def test_of_several_containers_the_usual_one_is_taken(tmp_path, first, second, chosen):
    for suffix in (first, second, ".txt", ".MP4x"):
        (tmp_path / f"a{suffix}").touch()
    assert FilenameIndex(tmp_path).find("a") == f"a{chosen}"


stems = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0.", exclude_categories=["Cs"]), min_size=1, max_size=9
)


@settings(max_examples=30, deadline=None)
@given(st.lists(stems, max_size=12, unique=True), stems)
def test_every_stem_is_found_and_no_other(tmp_path_factory, names, other):
    folder = tmp_path_factory.mktemp("s")
    for number, name in enumerate(names):
        (folder / f"{number}").mkdir()
        (folder / f"{number}" / f"{name}.mp4").touch()
    index = FilenameIndex(folder)
    assert len(index) == len(names)
    assert [index.find(name) for name in names] == [f"{number}/{name}.mp4" for number, name in enumerate(names)]
    if other not in names:
        with pytest.raises(BadItem, match="no such file"):
            index.find(other)


def all_frames(content: Path | bytes, reader: str) -> np.ndarray:
    clip = open_clip(content)
    return np.stack(read_frames(clip, list(range(len(clip))), np.array, reader))


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".gif", "gif", "rgb8"),
        (".mkv", "ffv1", "bgr0"),
    ],
)
@pytest.mark.parametrize("reader", ["auto", "pyav"])
def test_bytes_and_file_give_the_same_frames(tmp_path, suffix, codec, pixel_format, reader):
    path = encode(tmp_path / f"a{suffix}", moving(12), codec, pixel_format)
    assert (all_frames(path, reader) == all_frames(path.read_bytes(), reader)).all()
    assert open_clip(path.read_bytes()).not_decord == open_clip(path).not_decord
    clip = open_clip(path.read_bytes())
    assert (np.stack(read_frames(clip, [2, 9], np.array, reader)) == all_frames(path, reader)[[2, 9]]).all()


def test_clips_in_tars_and_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_clip(tmp_path / "a.mp4", moving(8), fps=8)
    write_clip(tmp_path / "b.mkv", moving(9), fps=8)
    first, second = (tmp_path / "a.mp4").read_bytes(), (tmp_path / "b.mkv").read_bytes()
    cut = encode(tmp_path / "c.gif", moving(8), "gif", "rgb8").read_bytes()[:-900]
    members = [("0.mp4", first), ("0.txt", "a"), ("1.mkv", second), ("1.txt", "b"), ("2.gif", cut), ("2.txt", "c")]
    (tmp_path / "clips").mkdir()
    tar(tmp_path / "clips" / "0.tar", *members, ("3.mp4", first[:500]), ("3.txt", "d"))
    pq.write_table(pa.table({"video": [{"bytes": first, "path": "a.mp4"}], "text": ["a"]}), tmp_path / "v.parquet")
    for source in (opened(tmp_path / "clips", Clips(32, 48, 4)), opened(tmp_path / "v.parquet", Clips(32, 48, 4))):
        # i · 7 / 3, rounded: 0, 2.33, 4.67, 7
        assert (source.item(0).views["winner"].pixels.permute(1, 2, 3, 0).numpy() == moving(8)[[0, 2, 5, 7]]).all()
        assert source.kind == "video" and source.item(0).caption == "a"
    source = opened(tmp_path / "clips", Clips(32, 48, 4))
    assert (source.item(1).views["winner"].pixels.permute(1, 2, 3, 0).numpy() == moving(9)[[0, 3, 5, 8]]).all()
    assert all(bad and bad.reason for bad in faults(source)[2:])
    # a window's start is drawn by the name inside the archive
    window = opened(tmp_path / "clips", Clips(32, 48, 2, sampling="window", stride=3, seed=1))
    assert (window.item(0).views["winner"].pixels == window.item(0).views["winner"].pixels).all()
    small = opened(tmp_path / "clips", Clips(32, 48, 4, max_pixels=100))
    assert "over the limit of 100" in faults(small)[0].reason


def test_pairs_of_clips(tmp_path):
    for name, frames in (("good", 8), ("bad", 12), ("short", 2)):
        write_clip(tmp_path / f"{name}.mp4", moving(frames), fps=8)
    rows = "file_name,loser_file_name,caption\ngood.mp4,bad.mp4,x\nbad.mp4,short.mp4,y\n"
    (tmp_path / "metadata.csv").write_text(rows)
    source = opened(tmp_path, Clips(32, 48, 4), supervision="pairs")
    item = source.item(0)
    assert item.views["winner"].pixels.shape == item.views["loser"].pixels.shape == (3, 4, 32, 48)
    assert (item.views["loser"].pixels.permute(1, 2, 3, 0).numpy() == moving(12)[[0, 4, 7, 11]]).all()
    assert (faults(source)[1].file, faults(source)[1].reason[:9]) == ("short.mp4", "too short")
