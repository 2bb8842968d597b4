"""PickScore, HPSv2 and the aesthetic score against the same network derived by hand, in float64."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seppo_core.judging.aesthetic import Aesthetic
from seppo_core.judging.checkpoint_keys import clip_state
from seppo_core.judging.hpsv2 import HPSv2
from seppo_core.judging.pickscore import PickScore
from tests.benchmarks.scorers import by_hand
from tests.benchmarks.scorers.fixtures import PROMPTS, clip_config, clip_tokenizer_folder, pictures, save
from tests.benchmarks.scorers.layouts_by_hand import TINY, clip_shapes, head_shapes, random_state

EXACT = {"rtol": 0, "atol": 1e-6}
"""Scores leave a scorer as float32; the networks agree to float64."""
CLIP = replace(TINY, vocabulary=514)
QUICK = replace(CLIP, quick_gelu=True)
CONFIG = clip_config(CLIP)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return clip_tokenizer_folder(tmp_path / "tokenizer")


def ids_by_hand(prompts: list[str]) -> torch.Tensor:
    """Start mark, one word per character (the last of a word marked), end mark; cut at 77."""
    rows = []
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    for prompt in prompts:
        row = []
        for word in prompt.lower().replace(",", " , ").split():
            row += [printable.index(ord(letter)) for letter in word[:-1]] + [printable.index(ord(word[-1])) + 256]
        row = [512, *row[:75], 513]
        rows.append(row + [513] * (77 - len(row)))
    return torch.tensor(rows)


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_pickscore(tmp_path, words, layout):
    state = random_state(clip_shapes(CLIP))
    file = tmp_path / "model.safetensors"
    save_file(clip_state(state) if layout == "transformers" else state, file)
    scorer = PickScore.load(tmp_path, words, dtype=torch.float64, config=CONFIG)
    images = pictures()
    pixels = scorer.framing.batch(images).double()
    expected = by_hand.clip_cosine(state, CLIP, pixels, ids_by_hand(PROMPTS))
    torch.testing.assert_close(scorer.score(images, PROMPTS), expected.float(), **EXACT)
    assert expected.std() > 0.01

    scaled = PickScore.load(file, words, dtype=torch.float64, scaled=True, config=CONFIG)
    torch.testing.assert_close(scaled.score(images, PROMPTS), (100 * expected).float(), rtol=0, atol=1e-4)
    assert (scorer.column, scaled.column) == ("pickscore_cos", "pickscore")


def test_hps_reads_the_published_container_and_letterboxes(tmp_path, words):
    state = random_state(clip_shapes(CLIP), seed=1)
    file = save(state, tmp_path / "HPS_v2.1_compressed.pt", nested=True)
    scorer = HPSv2.load(file, words, dtype=torch.float64, version="2.1", config=CONFIG)
    images, prompts = pictures(), ["A  red\tcat", "a dog on the moon", "dogs"]
    pixels = scorer.framing.batch(images).double()
    assert scorer.framing.mode == "letterbox" and scorer.framing.antialias
    expected = by_hand.clip_cosine(state, CLIP, pixels, ids_by_hand(prompts))
    torch.testing.assert_close(scorer.score(images, prompts), expected.float(), **EXACT)
    assert scorer.column == "hps_v2.1"
    old = HPSv2.load(file, words, dtype=torch.float64, version="2.1", antialias=False, config=CONFIG)
    assert old.column == "hps_v2.1_noantialias" and old.fingerprint() != scorer.fingerprint()
    assert not torch.equal(old.score(images, prompts), scorer.score(images, prompts))


def test_hps_versions_are_not_mixed_up(tmp_path, words):
    state = random_state(clip_shapes(CLIP))
    # the authors' demo has v2.0 under this name
    trap = save(state, tmp_path / "HPS_v2_1.pt", nested=True)
    with pytest.raises(ValueError, match=r"HPS_v2_1\.pt holds HPS v2\.0, and v2\.1 was asked for"):
        HPSv2.load(trap, words, version="2.1", config=CONFIG)
    assert HPSv2.load(trap, words, config=CONFIG).column == "hps_v2.0"
    with pytest.raises(ValueError, match=r"version='3' of HPSv2; there are 2\.0, 2\.1"):
        HPSv2.load(trap, words, version="3", config=CONFIG)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_aesthetic(tmp_path, version):
    state = random_state(clip_shapes(QUICK), seed=2)
    save_file(clip_state(state), tmp_path / "model.safetensors")
    if version == "v2":
        head = random_state(head_shapes(QUICK.embed), seed=3)
        file = save(head, tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    else:
        head = random_state({"weight": (1, QUICK.embed), "bias": (1,)}, seed=3)
        file = save(head, tmp_path / "sa_0_4_vit_l_14_linear.pth")
    # the folder holds head and backbone
    scorer = Aesthetic.load(
        file, tmp_path / "model.safetensors", dtype=torch.float64, version=version, config=clip_config(QUICK)
    )
    images = pictures()
    embedding = by_hand.clip_image(state, QUICK, scorer.framing.batch(images).double())
    embedding = embedding / embedding.norm(dim=-1, keepdim=True)
    # the scorer normalises in float32, as half precision would lose digits
    expected = (
        by_hand.head(head, "layers", embedding) if version == "v2" else embedding @ head["weight"][0] + head["bias"]
    )
    torch.testing.assert_close(scorer.score(images, PROMPTS), expected.float(), rtol=0, atol=2e-6)
    assert scorer.truncated(PROMPTS) == []
    assert expected.std() > 0.01


def test_batches_orders_and_shared_prompts_do_not_matter(tmp_path, words):
    save_file(random_state(clip_shapes(CLIP)), tmp_path / "model.safetensors")
    scorer = PickScore.load(tmp_path, words, dtype=torch.float64, config=CONFIG)
    images, prompts = pictures(5), ["cat", "dog", "cat", "moon", "cat"]
    together = scorer.score(images, prompts)
    scorer.batch_size = 2
    torch.testing.assert_close(scorer.score(images, prompts), together, **EXACT)
    backwards = scorer.score(images[::-1], prompts[::-1])
    torch.testing.assert_close(backwards.flip(0), together, **EXACT)
    one = torch.cat([scorer.score([image], [prompt]) for image, prompt in zip(images, prompts, strict=True)])
    torch.testing.assert_close(one, together, **EXACT)
    assert scorer.score([], []).shape == (0,)


def test_prompts_that_lose_their_end_are_told(tmp_path, words):
    save_file(random_state(clip_shapes(CLIP)), tmp_path / "model.safetensors")
    scorer = PickScore.load(tmp_path, words, config=CONFIG)
    # letters are tokens here: 75 and two marks just fit
    prompts = ["a" * 75, "a" * 76, "a"]
    assert scorer.count_tokens(prompts) == [77, 78, 3]
    assert scorer.truncated(prompts) == [1]


def test_fingerprint_is_of_what_the_numbers_depend_on(tmp_path, words):
    save_file(random_state(clip_shapes(CLIP)), tmp_path / "model.safetensors")
    save_file(random_state(clip_shapes(CLIP), seed=9), tmp_path / "other.safetensors")
    load = lambda *where, **options: PickScore.load(*where, words, config=CONFIG, **options).fingerprint()  # noqa: E731
    first = load(tmp_path)
    assert first == load(tmp_path / "model.safetensors")
    assert (
        len(
            {
                first,
                load(tmp_path / "other.safetensors"),
                load(tmp_path, dtype=torch.float64),
                load(tmp_path, scaled=True),
            }
        )
        == 4
    )
    assert len(first) == 64


def test_wrong_input_is_named(tmp_path, words):
    save_file(random_state(clip_shapes(CLIP)), tmp_path / "model.safetensors")
    scorer = PickScore.load(tmp_path, words, config=CONFIG)
    with pytest.raises(ValueError, match="3 images and 1 prompts"):
        scorer.score(pictures(), ["a"])
    scorer.model.logit_scale.fill_(float("nan"))
    broken = PickScore(scorer.model, scorer.prompts, scorer.framing, (), {"scaled": True})
    with pytest.raises(ValueError, match=r"pickscore is not finite for images \[0, 1\]"):
        broken.score(pictures(2), ["a", "b"])
