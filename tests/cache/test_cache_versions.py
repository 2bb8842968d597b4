"""Caches of format 2, finished or half-made: they are read, continued and mended as if they were of today's format."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seppo_core.cache.manifest import CONDITION, StoredFile
from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.cache.verify import find_damage, mend
from seppo_core.io.hashing import sha256_file
from tests.cache.test_prepare import BAD, CAPTIONS, OPTIONS, Killed, StoppingAdapter
from tests.cache.winners import ListSource, PixelAdapter

FORMS = ("winners", "pairs", "labels")


def make(folder: Path, form: str, adapter: PixelAdapter | None = None) -> None:
    prepare(adapter or PixelAdapter(), ListSource(CAPTIONS, BAD, form=form), folder, **OPTIONS)


def as_version_2(folder: Path) -> None:
    """Rewrites shards, notes and header as the earlier version wrote them."""

    def earlier(stored: dict) -> dict:
        path = folder / stored["file"]
        return {"file": path.name, "rows": stored["count"], "bytes": path.stat().st_size, "sha256": sha256_file(path)}

    for path in folder.glob("items-*.safetensors"):
        names = {
            name: name.removeprefix("winner.").removeprefix("item.").replace(CONDITION[1:], "frame.")
            for name in load_file(path)
        }
        save_file({names[name]: tensor for name, tensor in load_file(path).items()}, path)
    for path in (folder / "parts").glob("*.json"):
        note = json.loads(path.read_text())
        del note["check"]
        path.write_text(json.dumps(note | {"stored": note["stored"] and earlier(note["stored"])}))
    for path in (folder / "manifest.json", folder / "prepare.json"):
        if path.exists():
            header = json.loads(path.read_text()) | {"version": 2}
            header.pop("check", None)
            if "shards" in header:
                header |= {name: list(map(earlier, header[name])) for name in ("shards", "texts", "tables")}
                header["rows"] = 1 + header.pop("mirrored")
                del header["tokenizer"], header["buckets"]
            path.write_text(json.dumps(header))


def assert_same(found: WinnerCache, expected: WinnerCache) -> None:
    everything, flipped = list(range(len(expected))), [index % 2 == 0 for index in range(len(expected))]
    assert found.fingerprint == expected.fingerprint and found.ids(everything) == expected.ids(everything)
    for view in expected.manifest.views:
        for one, other in zip(
            found.posterior(everything, flipped, view), expected.posterior(everything, flipped, view), strict=True
        ):
            assert torch.equal(one, other)
        one, other = (cache.condition(everything, flipped, view) for cache in (found, expected))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    if expected.form == "labels":
        assert torch.equal(found.labels(everything), expected.labels(everything))


@pytest.mark.parametrize("form", FORMS)
def test_a_finished_cache_is_read_with_a_warning_and_is_not_prepared_again(tmp_path, form):
    make(tmp_path / "new", form)
    make(tmp_path / "old", form)
    as_version_2(tmp_path / "old")
    with pytest.warns(FutureWarning, match="format 2"):
        old = WinnerCache(tmp_path / "old")
    assert_same(old, WinnerCache(tmp_path / "new"))
    adapter = PixelAdapter()
    with pytest.warns(FutureWarning, match="format 2"):
        make(tmp_path / "old", form, adapter)
    assert adapter.calls == []


@pytest.mark.parametrize("form", FORMS)
def test_a_half_made_cache_is_continued(tmp_path, form):
    make(tmp_path / "new", form)
    with pytest.raises(Killed):
        make(tmp_path / "old", form, StoppingAdapter(7))
    as_version_2(tmp_path / "old")
    done = len(list((tmp_path / "old").glob("items-*.safetensors")))
    adapter = PixelAdapter()
    make(tmp_path / "old", form, adapter)
    assert done > 0 and sum(adapter.calls) < 28 * (1 + (form == "pairs"))
    assert_same(WinnerCache(tmp_path / "old"), WinnerCache(tmp_path / "new"))


def test_damage_is_mended(tmp_path):
    make(tmp_path / "new", "winners")
    make(tmp_path / "old", "winners")
    as_version_2(tmp_path / "old")
    shard = tmp_path / "old" / "items-00003.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        damaged, _ = find_damage(tmp_path / "old", progress=False)
        assert [one.file for one in damaged] == [shard.name] and mend(tmp_path / "old", damaged) == 1
    adapter = PixelAdapter()
    make(tmp_path / "old", "winners", adapter)
    assert sum(adapter.calls) == 6
    assert_same(WinnerCache(tmp_path / "old"), WinnerCache(tmp_path / "new"))


def test_the_record_of_a_file_is_read_in_both_versions():
    expected = StoredFile("a", 3, 4, "b")
    assert StoredFile.from_json({"file": "a", "rows": 3, "bytes": 4, "sha256": "b"}) == expected
    assert StoredFile.from_json({"file": "a", "count": 3, "bytes": 4, "sha256": "b"}) == expected


def test_keys_that_decide_what_is_cached_are_recorded_and_older_caches_go_on(tmp_path):
    long, short = ({"model.text_tokens": tokens} for tokens in (512, 10))
    source, adapter = ListSource(CAPTIONS[:3]), PixelAdapter()
    prepare(adapter, source, tmp_path / "new", model="tiny", encoding=long, progress=False)
    with pytest.raises(ValueError, match=r"model\.text_tokens 512 there, 10 now"):
        prepare(adapter, source, tmp_path / "new", model="tiny", encoding=short, progress=False)
    before = prepare(adapter, source, tmp_path / "old", model="tiny", progress=False)
    adapter.calls.clear()
    after = prepare(adapter, source, tmp_path / "old", model="tiny", encoding=short, progress=False)
    assert after == before and adapter.calls == []
    anew = prepare(adapter, source, tmp_path / "old", model="tiny", encoding=short, overwrite=True, progress=False)
    assert anew.settings["model.text_tokens"] == 10 and anew.fingerprint != before.fingerprint


def test_captions_of_another_length_are_noticed_whatever_was_recorded(tmp_path):
    prepare(PixelAdapter(), ListSource(CAPTIONS[:3]), tmp_path, model="tiny", progress=False)
    cache = WinnerCache(tmp_path)
    cache.check_captions({"text": torch.empty(1, 6, 4), "mask": torch.empty(1, 6)})
    with pytest.raises(ValueError, match=r"text is 6 × 4, this model's is 7 × 4 .*model\.text_tokens"):
        cache.check_captions({"text": torch.empty(1, 7, 4)})
    with pytest.raises(ValueError, match=r"pooled is missing"):
        cache.check_captions({"pooled": torch.empty(1, 8)})


def test_what_decodes_the_files_is_recorded_and_older_caches_go_on(tmp_path, capsys):
    source, adapter, key = ListSource(CAPTIONS[:3]), PixelAdapter(), {"model.text_tokens": 512}
    before = prepare(adapter, source, tmp_path / "old", model="tiny", encoding=key, progress=False)
    source.decoding = "pictures 2"
    adapter.calls.clear()
    after = prepare(adapter, source, tmp_path / "old", model="tiny", encoding=key)
    assert after == before and adapter.calls == [] and "goes on as it is" in capsys.readouterr().out
    # a manifest that is damaged says no settings, and its notes say whose they are
    (tmp_path / "old" / "manifest.json").write_text("{")
    assert prepare(adapter, source, tmp_path / "old", model="tiny", encoding=key, progress=False) == before
    anew = prepare(adapter, source, tmp_path / "new", model="tiny", encoding=key, progress=False)
    assert anew.settings["decoding"] == "pictures 2" and anew.fingerprint != before.fingerprint
    source.decoding = "pictures 3"
    with pytest.raises(ValueError, match="decoding pictures 2 there, pictures 3 now"):
        prepare(adapter, source, tmp_path / "new", model="tiny", encoding=key, progress=False)
