"""`verify` finds what changed after `prepare`, and mending encodes that again and nothing else."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.cache.verify import find_damage, mend
from seppo_core.cache.writer import CacheFolder
from seppo_core.io.hashing import sha256_file
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


def test_damage_of_equal_size_is_named_before_it_is_trained_on(tmp_path, capsys):
    folder = tmp_path / "cache"
    whole = make(folder)
    flip_bit(folder / "items-00003.safetensors")
    cache = WinnerCache(folder)
    items = list(range(len(cache)))
    with pytest.raises(ValueError, match=r"items-00003.safetensors has another content .*--mend true"):
        cache.posterior(items, [False] * len(items))
    with pytest.raises(ValueError, match=r"items-00003.safetensors has another content .*--mend true"):
        prepare(PixelAdapter(), ListSource(CAPTIONS, BAD), folder, **OPTIONS)
    mend(folder, find_damage(folder, progress=False)[0])
    flip_bit(folder / "text-00001.safetensors")
    adapter = PixelAdapter()
    # no cache any more, so that what else is damaged is encoded again without asking
    prepare(adapter, ListSource(CAPTIONS, BAD), folder, **OPTIONS)
    assert "text-00001.safetensors has another content than was written; it is encoded again" in capsys.readouterr().out
    assert content(folder) == whole and sum(adapter.calls) == 6
    flip_bit(folder / "index.safetensors")
    with pytest.raises(ValueError, match=r"index.safetensors has another content"):
        WinnerCache(folder)


def test_a_damaged_manifest_is_made_anew_from_the_notes(tmp_path, capsys):
    whole = make(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"items": 14', '"items": 13'))
    with pytest.raises(ValueError, match=r"manifest.json is damaged .*`prepare` again, which makes it anew"):
        WinnerCache(tmp_path)
    adapter = PixelAdapter()
    prepare(adapter, ListSource(CAPTIONS, BAD), tmp_path, **OPTIONS)
    assert content(tmp_path) == whole and not adapter.calls
    assert "made anew from the notes" in capsys.readouterr().out


class NotFinite(PixelAdapter):
    """Its text encoder overflows on one caption."""

    def encode_prompts(self, prompts):
        condition = super().encode_prompts(prompts)
        for name, tensor in condition.items():
            if tensor.is_floating_point():
                condition[name] = tensor.masked_fill(
                    torch.tensor([prompt == CAPTIONS[1] for prompt in prompts]).view(-1, *[1] * (tensor.ndim - 1)),
                    float("inf"),
                )
        return condition


def test_values_that_are_not_finite_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=f"not finite for the caption '{CAPTIONS[1]}'"):
        prepare(NotFinite(), ListSource(CAPTIONS, BAD), tmp_path / "texts", **OPTIONS)
    # as an earlier version may have stored them
    make(tmp_path / "cache")
    path = tmp_path / "cache" / "items-00000.safetensors"
    tensors = load_file(path)
    tensors["winner.mean"][1] = float("nan")
    save_file(tensors, path)
    manifest = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    del manifest["check"]
    manifest["shards"][0]["sha256"] = sha256_file(path)
    (tmp_path / "cache" / "manifest.json").write_text(json.dumps(manifest))
    cache = WinnerCache(tmp_path / "cache")
    cache.posterior([0], [False])
    with pytest.raises(ValueError, match=r"latents that are not finite, of \d+\.png .*--overwrite"):
        cache.posterior([0, 1], [False] * 2)
