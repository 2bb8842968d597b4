"""Numbers that the authors published, for whoever has the weights: `pytest -m weights`, SEPPO_WEIGHTS_DIR set.

The pictures are the authors' own and lie beside the weights: `ImageReward/images/1.webp` to `4.webp` (assets/images of
their repository), `coco/000000039769.jpg` (COCO 2017 validation).
"""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from seppo_core.judging.catalogue import SCORERS, load_scorer
from seppo_core.judging.clip_score import BASE, CLIPScore
from tests.benchmarks.scorers.fixtures import pictures

pytestmark = pytest.mark.weights


def published(*names: str) -> list[Image.Image]:
    folder = Path(os.environ.get("SEPPO_WEIGHTS_DIR", "."))
    paths = [folder / name for name in names]
    if missing := [path for path in paths if not path.is_file()]:
        pytest.skip(f"{missing[0]} is not there")
    return [Image.open(path) for path in paths]


def load_or_skip(column: str):
    try:
        return load_scorer(column)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_image_reward_of_the_readme():
    images = published(*(f"ImageReward/images/{n}.webp" for n in range(1, 5)))
    prompt = "a painting of an ocean with clouds and birds, day time, low depth field effect"
    scores = load_or_skip("image_reward").score(images, [prompt] * 4)
    expected = [0.5811622738838196, 0.2745276093482971, -1.4131819009780884, -2.029569625854492]
    # the README itself warns of small differences between devices
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=0, atol=5e-3)


def test_clip_base_on_two_cats():
    images = published("coco/000000039769.jpg") * 2
    try:
        scorer = CLIPScore.load(source=BASE)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    # the logits that transformers' own integration test expects: 100·cosine
    expected = torch.tensor([24.5701, 19.3049])
    scores = scorer.score(images, ["a photo of a cat", "a photo of a dog"])
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("column", list(SCORERS))
def test_real_weights_load_and_give_plausible_numbers(column):
    """No one published numbers per image for the other scorers (HPS's are means of 3200 drawn images): their range."""
    scorer = load_or_skip(column)
    scores = scorer.score(pictures(2), ["a cat", "a cat"])
    low, high = {"pickscore": (0, 40), "image_reward": (-4, 4), "aesthetic": (0, 10), "aesthetic_v1": (0, 10)}.get(
        column, (-1, 1) if "clip" not in column or "signed" in column else (0, 60)
    )
    assert ((scores >= low) & (scores <= high)).all()
    if column == "pickscore":
        assert scorer.model.logit_scale.exp().item() == pytest.approx(100, rel=0.05)
