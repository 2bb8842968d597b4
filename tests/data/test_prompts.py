"""Captions alone: a text file, or what other sources hold, encoded as the captions of winners are."""

import json
from dataclasses import replace

import pytest
import torch

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.config.data import DataConfig
from seppo_core.data.open import open_source
from seppo_core.data.prompts import Prompts
from tests.cache.winners import ListSource, PixelAdapter
from tests.data.tables import OneByte

CAPTIONS = ["a fox", "two owls", "a fox"]


def opened(source, **changes) -> Prompts:
    config = DataConfig(source=str(source), cache="c", height=8, width=8, supervision="prompts")
    return open_source(replace(config, **changes), OneByte(8, 8), 0)


def captions(source: Prompts) -> list[str]:
    return [source.item(position).caption for position in range(len(source))]


def test_captions_of_any_source_need_no_file_that_it_names(tmp_path):
    (tmp_path / "prompts.txt").write_text("\ufeffa fox\n\n two owls \r\na fox", encoding="utf-8")
    lines = [{"file_name": f"gone-{number}.png", "caption": text} for number, text in enumerate(CAPTIONS)]
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "words.csv").write_text("prompt\n" + "\n".join(CAPTIONS))
    (tmp_path / "beside").mkdir()
    for number, text in enumerate(CAPTIONS):
        (tmp_path / "beside" / f"{number}.png").write_bytes(b"no picture")
        (tmp_path / "beside" / f"{number}.txt").write_text(text)
    for name in ("prompts.txt", "table.jsonl", "words.csv", "beside"):
        assert captions(opened(tmp_path / name)) == CAPTIONS, name
    before = opened(tmp_path / "beside").fingerprint()
    (tmp_path / "beside" / "1.txt").write_text("an owl")
    assert opened(tmp_path / "beside").fingerprint() != before


def test_what_holds_no_captions_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"empty.txt holds no prompt; write one a line"):
        opened(tmp_path / "empty.txt")
    (tmp_path / "t.csv").write_text("file_name,score\na.png,1\n")
    with pytest.raises(ValueError, match=r"it needs a caption in one of caption, text, prompt"):
        opened(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"empty.txt is none of"):
        opened(tmp_path / "empty.txt", supervision="winners")
    with pytest.raises(ValueError, match=r"data.flip=true needs pictures"):
        opened(tmp_path / "empty.txt", flip=True)


def test_a_cache_of_captions_holds_the_conditions_of_winners_and_no_latents(tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(CAPTIONS))
    adapter = PixelAdapter()
    manifest = prepare(adapter, opened(tmp_path / "prompts.txt"), tmp_path / "cache", model="m", progress=False)
    assert not adapter.calls, "nothing was encoded by the VAE"
    assert (manifest.items, manifest.captions, manifest.latent_shape) == (3, 2, (12, 4, 4))
    prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "winners", model="m", progress=False)
    alone, winners = WinnerCache(tmp_path / "cache"), WinnerCache(tmp_path / "winners")
    alone.check()
    for drop in (False, True):
        ours, theirs = alone.condition([0, 1], [False, drop]), winners.condition([0, 1], [False, drop])
        assert all(torch.equal(ours[name], theirs[name]) for name in ("text", "mask"))
    # that of a whole picture of the size that is drawn, and not of a file
    assert alone.condition([2], [False])["size"].tolist() == [[8, 0]]
    with pytest.raises(ValueError, match="holds captions alone"):
        alone.posterior([0], [False])
    # and a model whose condition holds nothing but text
    bare = PixelAdapter()
    bare.size_condition = lambda framings: {}
    prepare(bare, opened(tmp_path / "prompts.txt"), tmp_path / "bare", model="m", progress=False)
    assert set(WinnerCache(tmp_path / "bare").condition([0], [False])) == {"text", "mask"}
