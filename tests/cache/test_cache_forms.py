"""Pairs and labels in the cache: both halves are the adapter's, and a wrong kind is refused."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.models.adapter import Posterior
from tests.cache.winners import ListSource, PixelAdapter

CAPTIONS = ["a red box", "a dog", "a red box", "a cat", "a dog", "a red box", "a bird"]
POSITIONS = [0, 1, 2, 4, 5, 6]


def make(folder: Path, form: str, adapter: PixelAdapter | None = None, **options) -> tuple[WinnerCache, ListSource]:
    source = ListSource(CAPTIONS, bad={3: "planted"}, form=form)
    arguments = {"model": "tiny", "batch_size": 2, "shard_size": 3, "flip": True, "progress": False} | options
    prepare(adapter or PixelAdapter(), source, folder, **arguments)
    return WinnerCache(folder), source


def unit(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


@pytest.mark.parametrize("flipped", [False, True])
def test_both_halves_of_a_pair_are_the_adapters(tmp_path, flipped):
    cache, source = make(tmp_path / "cache", "pairs")
    assert (cache.form, cache.manifest.form, len(cache)) == ("pairs", "pairs", 6)
    for loser, view in [(False, "winner"), (True, "loser")]:
        pixels = torch.stack([source.pixels(position, loser) for position in POSITIONS])
        expected = PixelAdapter().encode(unit(pixels.flip(-1) if flipped else pixels))
        found = cache.posterior(list(range(6)), [flipped] * 6, view)
        assert torch.equal(found.mean, expected.mean) and torch.equal(found.logvar, expected.logvar)


def test_a_loser_has_the_pairs_text_and_its_own_framing(tmp_path):
    cache, _ = make(tmp_path / "cache", "pairs")
    winner, loser = (cache.condition([3, 0], [False, True], view) for view in ("winner", "loser"))
    assert winner.keys() == loser.keys() == {"text", "mask", "size"}
    assert torch.equal(winner["text"], loser["text"]) and torch.equal(winner["mask"], loser["mask"])
    assert winner["size"].tolist() == [[104, 3], [100, 3]] and loser["size"].tolist() == [[304, 3], [300, 3]]


def test_labels_come_back_as_they_were(tmp_path):
    cache, _ = make(tmp_path / "cache", "labels")
    assert cache.form == "labels"
    labels = cache.labels([0, 3, 5, 1])
    assert labels.dtype == torch.bool and labels.tolist() == [True, False, True, False]


@pytest.mark.parametrize("form", ["winners", "pairs", "labels"])
def test_what_the_cache_does_not_hold_is_refused(tmp_path, form):
    cache, _ = make(tmp_path / "cache", form)
    arguments = ([0], [False])
    for wanted, read in [
        ("pairs", lambda: cache.posterior(*arguments, "loser")),
        ("pairs", lambda: cache.condition(*arguments, "loser")),
        ("labels", lambda: cache.labels([0])),
    ]:
        if wanted == form:
            read()
        else:
            with pytest.raises(ValueError, match=rf"holds {form}.* data\.supervision={wanted}"):
                read()


def test_a_pair_is_rejected_whole_where_one_latent_is_not_finite(tmp_path):
    source = ListSource(CAPTIONS, form="pairs")
    spoilt = [unit(source.pixels(1)), unit(source.pixels(4, loser=True))]

    class Overflowing(PixelAdapter):
        def encode(self, pixels):
            mean, logvar = super().encode(pixels)
            hit = torch.stack([(pixels == one).flatten(1).all(1) for one in spoilt]).any(0)
            return Posterior(torch.where(hit[:, None, None, None], torch.inf, mean), logvar)

    cache, _ = make(tmp_path / "cache", "pairs", Overflowing(), flip=False)
    assert cache.ids(list(range(len(cache)))) == ["id 0", "id 2", "id 5", "id 6"]
    lines = [json.loads(line) for line in (tmp_path / "cache" / "rejected.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["1.png", "3.png", "4.png"]
    assert "not finite" in lines[0]["reason"] and lines[2]["reason"].startswith("the loser: its latents are not finite")
    expected = PixelAdapter().encode(unit(source.pixels(6, loser=True))[None])
    assert torch.equal(cache.posterior([3], [False], "loser").mean, expected.mean)


def test_another_form_is_another_cache(tmp_path):
    make(tmp_path / "cache", "pairs")
    with pytest.raises(ValueError, match=r"form pairs.*winners"):
        make(tmp_path / "cache", "winners")
