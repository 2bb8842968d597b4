import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from seppo_core.cache.manifest import Manifest
from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from tests.cache.winners import ListSource, PixelAdapter

CAPTIONS = ["a red box", "a dog", "a red box", "a cat", "a dog", "a red box", "a bird"]


def make(folder: Path, **options) -> tuple[WinnerCache, ListSource, PixelAdapter]:
    source, adapter = ListSource(CAPTIONS, bad={3: "planted"}), PixelAdapter()
    arguments = {"model": "tiny", "batch_size": 2, "shard_size": 3, "flip": True, "progress": False} | options
    prepare(adapter, source, folder, **arguments)
    return WinnerCache(folder), source, adapter


def unit(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def test_posteriors_are_the_adapters_of_the_pixels_and_of_the_mirrored_pixels(tmp_path):
    cache, source, adapter = make(tmp_path / "cache")
    positions = [0, 1, 2, 4, 5, 6]
    assert len(cache) == 6
    for flipped in (False, True):
        pixels = torch.stack([source.pixels(position) for position in positions])
        expected = adapter.encode(unit(pixels.flip(-1) if flipped else pixels))
        found = cache.posterior(list(range(6)), [flipped] * 6)
        assert torch.equal(found.mean, expected.mean) and torch.equal(found.logvar, expected.logvar)
    mixed = cache.posterior([5, 0, 5], [True, False, False])
    for row, (index, flip) in enumerate([(5, True), (0, False), (5, False)]):
        assert torch.equal(mixed.mean[row], cache.posterior([index], [flip]).mean[0])


def test_conditions_are_of_the_caption_or_of_the_empty_one_with_the_items_framing(tmp_path):
    cache, _, adapter = make(tmp_path / "cache")
    found = cache.condition([3, 0, 4], [False, True, False])
    expected = adapter.encode_prompts(["a dog", "", "a red box"])
    assert found.keys() == {"text", "mask", "size"}
    assert torch.equal(found["text"], expected["text"]) and torch.equal(found["mask"], expected["mask"])
    assert found["mask"].dtype == torch.bool
    assert found["size"].tolist() == [[104, 3], [100, 3], [105, 3]]
    unconditional = cache.unconditional()
    assert unconditional.keys() == {"text", "mask"}
    assert torch.equal(unconditional["text"], adapter.encode_prompts([""])["text"])


def test_items_are_named_and_captioned(tmp_path):
    cache, _, _ = make(tmp_path / "cache")
    assert cache.captions([5, 2, 3]) == ["a bird", "a red box", "a dog"]
    assert cache.ids([5, 2, 3]) == ["id 6", "id 2", "id 4"]
    assert (cache.kind, cache.latent_shape, cache.manifest.mirrored) == ("image", (12, 4, 4), True)
    assert [json.loads(line) for line in (tmp_path / "cache" / "rejected.jsonl").read_text().splitlines()] == [
        {"file": "3.png", "reason": "planted"}
    ]


def test_each_distinct_caption_is_encoded_and_stored_once(tmp_path):
    cache, _, adapter = make(tmp_path / "cache")
    assert cache.manifest.captions == 3
    # the empty caption is asked for once more, for its shape
    assert sorted(adapter.prompts) == ["", "", "a bird", "a dog", "a red box"]
    assert sum(stored.count for stored in cache.manifest.texts) == 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_halves_the_files_and_reads_as_float32(tmp_path, dtype):
    exact, _, _ = make(tmp_path / "exact")
    half, _, _ = make(tmp_path / "half", dtype=dtype)
    kind = getattr(torch, dtype)
    found, expected = half.posterior([0, 5], [False, True]), exact.posterior([0, 5], [False, True])
    assert found.mean.dtype == torch.float32 and torch.equal(found.mean, expected.mean.to(kind).float())
    assert torch.equal(half.condition([1], [False])["text"], exact.condition([1], [False])["text"].to(kind).float())
    assert half.condition([1], [False])["size"].dtype == torch.int64
    with safe_open(tmp_path / "half" / "items-00000.safetensors", framework="pt") as shard:
        assert shard.get_tensor("winner.mean").dtype == kind


def test_clips_keep_their_frames(tmp_path):
    source, adapter = ListSource(CAPTIONS[:3], frames=5), PixelAdapter()
    prepare(adapter, source, tmp_path / "cache", model="tiny", progress=False)
    cache = WinnerCache(tmp_path / "cache")
    assert (cache.kind, cache.latent_shape, cache.manifest.mirrored) == ("video", (12, 5, 4, 4), False)
    expected = adapter.encode(unit(source.pixels(1))[None])
    assert torch.equal(cache.posterior([1], [False]).mean, expected.mean)


def test_mirrored_rows_that_were_not_prepared_are_refused(tmp_path):
    cache, _, _ = make(tmp_path / "cache", flip=False)
    with pytest.raises(ValueError, match=r"data\.flip=true"):
        cache.posterior([0, 1], [False, True])
    with pytest.raises(IndexError, match=r"\b6\b.*0\.\.5"):
        cache.posterior([6], [False])


def test_few_shards_stay_mapped_and_the_cache_travels_to_other_processes(tmp_path):
    cache, _, _ = make(tmp_path / "cache", shard_size=1)
    cache._items.mapped = 2
    everything = cache.posterior(list(range(6)), [False] * 6)
    assert len(cache._items._open) == 2
    again = pickle.loads(pickle.dumps(cache))
    assert torch.equal(again.posterior([2], [False]).mean[0], everything.mean[2])


def test_what_is_not_a_whole_cache_is_refused_with_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*`prepare`"):
        WinnerCache(tmp_path / "nowhere")
    cache, _, _ = make(tmp_path / "cache")
    manifest = tmp_path / "cache" / "manifest.json"
    content = json.loads(manifest.read_text())
    # its hash of itself, which earlier versions did not write
    del content["check"]

    manifest.write_text(json.dumps(content | {"version": 99}))
    with pytest.raises(ValueError, match=r"\b99\b.*\b3\b"):
        WinnerCache(tmp_path / "cache")
    manifest.write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"manifest\.json"):
        WinnerCache(tmp_path / "cache")
    del content["shards"]
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="shards"):
        Manifest.read(tmp_path / "cache")
    manifest.rename(tmp_path / "cache" / "prepare.json")
    with pytest.raises(FileNotFoundError, match="`prepare`"):
        WinnerCache(tmp_path / "cache")
    assert len(cache) == 6


def test_damaged_shards_are_found(tmp_path):
    make(tmp_path / "cache")
    shard = tmp_path / "cache" / "items-00001.safetensors"
    whole = shard.read_bytes()

    shard.write_bytes(b"\xff" * len(whole))
    with pytest.raises(ValueError, match=r"items-00001\.safetensors"):
        WinnerCache(tmp_path / "cache").posterior([4], [False])
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"items-00001\.safetensors.*{len(whole) // 2}.*{len(whole)}"):
        WinnerCache(tmp_path / "cache")
    shard.unlink()
    with pytest.raises(ValueError, match=r"items-00001\.safetensors"):
        WinnerCache(tmp_path / "cache")
