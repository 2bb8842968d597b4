"""Items with several captions: all are in the cache, one is drawn at each use, for winner and sample alike."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.config.method import ReferenceSamplesConfig
from seppo_core.models.noise_path import FlowNoisePath
from seppo_core.training import reference_samples
from seppo_core.training.batches import BatchMaker, WinnerOrder, chosen_captions
from seppo_core.training.reference_samples import ReferenceSampler
from tests.cache.test_prepare import OPTIONS, content
from tests.cache.winners import ListSource, PixelAdapter

MORE = {1: ("b2", "b3"), 3: ("a",)}
CAPTIONS = ["a", "b", "c", "d"]


class Several(ListSource):
    def item(self, position: int):
        return super().item(position)._replace(more=MORE.get(position, ()))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> WinnerCache:
    folder = tmp_path_factory.mktemp("several") / "cache"
    prepare(PixelAdapter(), Several(CAPTIONS), folder, **OPTIONS)
    return WinnerCache(folder)


def test_all_are_in_the_cache(cache):
    assert [cache.caption_count(n) for n in range(4)] == [1, 3, 1, 2] and cache.manifest.captions == 6
    assert cache.captions(list(range(4))) == CAPTIONS
    text = lambda captions: PixelAdapter().encode_prompts(captions)["text"]  # noqa: E731
    found = cache.condition([0, 1, 1, 1, 3], [False] * 5, chosen=[0, 0, 1, 2, 1])["text"]
    assert torch.equal(found, text(["a", "b", "b2", "b3", "a"]))
    assert torch.equal(cache.condition([1], [True], chosen=[2])["text"], text([""]))
    assert torch.equal(cache.condition([1, 3], [False] * 2)["text"], text(["b", "d"]))


def test_with_a_caption_each_nothing_changes(tmp_path, monkeypatch):
    prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS)
    assert load_file(tmp_path / "cache" / "index.safetensors").keys() == {"caption", "line"}
    assert b"captions" not in content(tmp_path / "cache")["items.jsonl"]
    plain = WinnerCache(tmp_path / "cache")
    monkeypatch.setattr("seppo_core.training.batches.keyed_stream", None)
    assert chosen_captions(plain, [0, 1, 2], [7, 8, 9], 0, 2) == [0, 0, 0]


def test_winner_and_sample_of_a_position_have_the_same_one(cache, monkeypatch):
    order = WinnerOrder(len(cache), 0)
    path = FlowNoisePath()
    maker = BatchMaker(cache=cache, order=order, noise_path=path, seed=0, batch_size=4)
    adapter = SimpleNamespace(scheduler=None)
    sampler = ReferenceSampler(
        adapter=adapter, cache=cache, order=order, seed=0, settings=ReferenceSamplesConfig(), device=torch.device("cpu")
    )
    given = []
    monkeypatch.setattr(reference_samples, "make_scheduler", lambda *_: None)
    monkeypatch.setattr(reference_samples, "sample_steps", lambda a, r, condition, **_: given.append(condition) or [])
    for update in range(3):
        list(sampler.steps(None, 0, range(4 * update, 4 * update + 4)))
        whole = maker.make(update, range(4), None, torch.device("cpu")).condition["text"]
        assert torch.equal(whole, given[-1]["text"])
        assert torch.equal(maker.make(update, range(2, 3), None, torch.device("cpu")).condition["text"], whole[2:3])


def test_each_is_drawn_as_often(cache):
    drawn = Counter(chosen_captions(cache, [1] * 3000, range(3000), 5, 2))
    assert drawn.keys() == {0, 1, 2} and all(900 < count < 1100 for count in drawn.values())
    assert chosen_captions(cache, [1] * 50, range(50), 5, 2) != chosen_captions(cache, [1] * 50, range(50), 6, 2)
