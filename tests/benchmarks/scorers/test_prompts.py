"""Cleaning and cutting of prompts."""

import importlib.util

import pytest

from seppo_core.judging.tokenize import Prompts, clip_tokenizer, open_clip_clean
from seppo_core.judging.weights import Source
from tests.benchmarks.scorers.fixtures import clip_tokenizer_folder

needs_ftfy = pytest.mark.skipif(importlib.util.find_spec("ftfy") is None, reason="ftfy is not installed")


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("  A  Cat\n\ton the\r\nMOON ", "a cat on the moon"),
        ("", ""),
        pytest.param("salt &amp;amp; pepper &lt;b&gt;", "salt & pepper <b>", marks=needs_ftfy),
        # curly quotes are straightened, a broken encoding is mended
        pytest.param("“A cat’s” caf\u00c3\u00a9", '"a cat\'s" café', marks=needs_ftfy),
    ],
)
def test_cleaning(prompt, cleaned):
    assert open_clip_clean(prompt) == cleaned


def test_what_needs_ftfy_says_so(monkeypatch):
    # None in sys.modules makes an import fail
    monkeypatch.setitem(__import__("sys").modules, "ftfy", None)
    assert open_clip_clean("plain") == "plain"
    for prompt in ("café", "a &amp; b", "a\x1b[0m"):
        with pytest.raises(ModuleNotFoundError, match="pip install ftfy"):
            open_clip_clean(prompt)


def test_cutting_keeps_both_marks(tmp_path):
    source = Source("tokenizer", None, (("vocab.json", "merges.txt"), ("tokenizer.json",)), 0, "")
    words, files = clip_tokenizer(clip_tokenizer_folder(tmp_path), source)
    assert [file.name for file in files] == ["vocab.json", "merges.txt"]
    prompts = Prompts(words, limit=5)
    ids = prompts.ids(["abcdefg", "a", ""])
    assert ids.shape == (3, 5)
    assert ids[0, 0] == 512 and ids[0, -1] == 513 and 513 not in ids[0, :-1]
    assert ids[2].tolist() == [512, 513, 513, 513, 513]
    assert prompts.lengths(["abcdefg", "a", ""]) == [9, 3, 2]
    # the other form in which tokenizers are published
    words.save_pretrained(tmp_path / "fast")
    (tmp_path / "fast" / "vocab.json").unlink(missing_ok=True)
    again, files = clip_tokenizer(tmp_path / "fast", source)
    assert [file.name for file in files] == ["tokenizer.json"]
    assert Prompts(again, limit=5).ids(["abcdefg", "a", ""]).equal(ids)
    with pytest.raises(ValueError, match="is one file"):
        clip_tokenizer(tmp_path / "vocab.json", source)
