"""`verify` finds what changed after `prepare`, and mending encodes that again and nothing else."""

import json
import os
from pathlib import Path

import pytest

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.cache.verify import find_damage, mend
from seppo_core.cache.writer import CacheFolder
from seppo_core.io.locks import LaunchLock
from tests.cache.test_prepare import BAD, CAPTIONS, OPTIONS, Killed, StoppingAdapter, content
from tests.cache.winners import ListSource, PixelAdapter


def make(folder: Path) -> dict[str, bytes]:
    prepare(PixelAdapter(), ListSource(CAPTIONS, BAD), folder, **OPTIONS)
    return content(folder)


def flip_bit(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)


def test_a_whole_cache_is_found_whole(tmp_path):
    files = make(tmp_path / "cache")
    apart = [name for name in files if name.startswith("parts/") or name == "manifest.json"]
    assert find_damage(tmp_path / "cache", progress=False) == ([], len(files) - len(apart))


@pytest.mark.parametrize("again", ["killed", "finished"])
@pytest.mark.parametrize(
    ("names", "images", "captions"),
    [
        # of the shard's four items one is bad; two rows each, and the texts not at all
        (["items-00003.safetensors"], 6, 0),
        (["items-00000.safetensors", "items-00004.safetensors"], 14, 0),
        (["text-00001.safetensors"], 0, 4),
        (["items.jsonl", "rejected.jsonl", "index.safetensors"], 0, 0),
    ],
)
def test_damage_is_named_and_mended_by_encoding_that_alone(tmp_path, names, images, captions, again):
    folder = tmp_path / "cache"
    whole = make(folder)
    for name in names:
        flip_bit(folder / name)
    damaged, _ = find_damage(folder, progress=False)
    assert sorted(one.file for one in damaged) == sorted(names)
    assert all(one.problem for one in damaged)
    shards = [name for name in names if name.startswith(("items-", "text-"))]
    assert mend(folder, damaged) == len(shards)
    with pytest.raises(FileNotFoundError, match="`prepare`"):
        WinnerCache(folder)
    if again == "killed" and images + captions:
        with pytest.raises(Killed):
            prepare(StoppingAdapter(1), ListSource(CAPTIONS, BAD), folder, **OPTIONS)
    adapter = PixelAdapter()
    prepare(adapter, ListSource(CAPTIONS, BAD), folder, **OPTIONS)
    assert content(folder) == whole
    # the empty caption is encoded for its shape at every start
    assert sum(adapter.calls) == images and len(adapter.prompts) - 1 == captions
    assert find_damage(folder, progress=False)[0] == []


def test_missing_and_cut_files_are_told_apart(tmp_path):
    make(tmp_path)
    (tmp_path / "items-00000.safetensors").unlink()
    cut = tmp_path / "text-00000.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    damaged, _ = find_damage(tmp_path, progress=False)
    assert damaged[0].file == "items-00000.safetensors"
    assert damaged[1].file == "text-00000.safetensors" and str(cut.stat().st_size) in damaged[1].problem


def test_a_half_made_cache_is_read_as_far_as_it_is(tmp_path):
    with pytest.raises(Killed):
        prepare(StoppingAdapter(7), ListSource(CAPTIONS, BAD), tmp_path, **OPTIONS)
    assert find_damage(tmp_path, progress=False)[0] == []
    flip_bit(tmp_path / "items-00000.safetensors")
    damaged, files = find_damage(tmp_path, progress=False)
    assert [one.file for one in damaged] == ["items-00000.safetensors"] and files >= 1
    mend(tmp_path, damaged)
    prepare(PixelAdapter(), ListSource(CAPTIONS, BAD), tmp_path, **OPTIONS)
    assert find_damage(tmp_path, progress=False)[0] == []


def test_without_notes_all_is_encoded_again(tmp_path):
    whole = make(tmp_path)
    for note in (tmp_path / "parts").glob("*.json"):
        note.unlink()
    flip_bit(tmp_path / "items-00000.safetensors")
    assert mend(tmp_path, find_damage(tmp_path, progress=False)[0]) == 6
    prepare(PixelAdapter(), ListSource(CAPTIONS, BAD), tmp_path, **OPTIONS)
    assert content(tmp_path) == whole


def test_what_is_no_cache_and_what_is_being_written_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_damage(tmp_path / "nowhere", progress=False)
    make(tmp_path / "cache")
    with LaunchLock(tmp_path / "cache" / "parts") as lock:
        lock.begin()
        with pytest.raises(ValueError, match=f"process {os.getpid()} on "):
            mend(tmp_path / "cache", [])


def test_a_note_of_another_cache_or_a_damaged_one_does_not_count(tmp_path):
    make(tmp_path / "cache")
    header = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    ours = CacheFolder(tmp_path / "cache", header["fingerprint"], header["settings"])
    assert len(ours.note("items-00000").items) == 3
    # what an orphan of a launch with other settings would leave
    assert CacheFolder(tmp_path / "cache", "another", {}).note("items-00000") is None
    (tmp_path / "cache" / "parts" / "items-00000.json").write_text('{"finger')
    assert ours.note("items-00000") is None
