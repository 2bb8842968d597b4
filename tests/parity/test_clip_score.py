"""CLIPScore in its three conventions and on open_clip's models, beside open_clip and torchmetrics."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.multimodal import clip_score
from transformers import CLIPImageProcessor, CLIPProcessor

from seppo_core.judging.catalogue import ANY_OPEN_CLIP, SCORERS, load_scorer
from seppo_core.judging.checkpoint_keys import clip_state
from seppo_core.judging.clip_score import CLIPScore
from seppo_core.judging.doctor import diagnose
from seppo_core.judging.open_clip_score import recipe_of, settings_of
from seppo_core.judging.preprocess import CLIP_MEAN, CLIP_STD
from seppo_core.judging.tokenize import CLIP_H_TOKENIZER, clip_tokenizer
from tests.benchmarks.scorers.fixtures import clip_config, pictures, save
from tests.benchmarks.scorers.layouts_by_hand import TINY, Clip, clip_shapes, random_state
from tests.parity.clip_vocabulary import write_vocabulary
from tests.parity.open_clip_models import PROMPTS, model_config, pil_pixels, their_cosine, theirs

pytestmark = pytest.mark.parity
Compare = Callable[[str, str, Tensor, Tensor, float], None]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def test_clip_score_beside_torchmetrics(tmp_path, words, compare: Compare):
    scorer = saved_clip(tmp_path, replace(TINY, quick_gelu=True), words, "clip_score")[0]
    images = [image.resize((32, 32)) for image in pictures(4)]
    tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
    prompts = ["a cat", "Two dogs.", "the moon", PROMPTS[0]]
    # below zero there would be nothing to compare
    assert (scorer.score(images, prompts) > 1).sum() > 1
    both = CLIPProcessor(CLIPImageProcessor.from_pretrained(tmp_path), scorer.tokenizer)
    for image, tensor, prompt in zip(images, tensors, prompts, strict=True):
        ours = scorer.score([image], [prompt])[0]
        expected = clip_score(tensor, prompt, lambda: (FeaturesAsTensors(scorer.model), both))
        compare("clip_score", "torchmetrics", ours, expected.detach(), 2e-4)


@pytest.mark.parametrize(
    ("column", "quick_gelu", "scale", "prefix"),
    [
        ("clip_score", True, 100, ""),
        ("clip_score_x2.5_prefixed", True, 2.5, "A photo depicts "),
        ("clip_score_x1_signed", False, 1, ""),
    ],
)
def test_clip_score(column, quick_gelu, scale, prefix, tmp_path, words, compare: Compare):
    clip = replace(TINY, quick_gelu=quick_gelu)
    scorer, state = saved_clip(tmp_path, clip, words, column)
    images, prompts = pictures(5), ["a cat", "Two dogs.", "the moon", PROMPTS[0], PROMPTS[4]]
    cosines = their_cosine(theirs(clip, state), pil_pixels(images), [prefix + prompt for prompt in prompts])
    assert scorer.column == column and (cosines < 0).any() and (cosines > 0).any()
    expected = scale * (cosines if column.endswith("signed") else cosines.clamp(min=0))
    ours = scorer.score(images, prompts)
    compare(column, "open_clip_torch on transformers PIL pixels", ours, expected, 2e-6 * scale)


def saved_clip(folder: Path, clip: Clip, words: Path, column: str) -> tuple[CLIPScore, dict[str, Tensor]]:
    """The scorer of a column on a small saved model, and that model's weights under open_clip's names."""
    state = {key: value.float() for key, value in random_state(clip_shapes(clip), seed=14).items()}
    config = clip_config(clip)
    config.architectures = ["CLIPModel"]
    config.save_pretrained(folder)
    save(clip_state(state), folder / "pytorch_model.bin")
    clip_tokenizer(words, CLIP_H_TOKENIZER)[0].save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return SCORERS[column].load(folder), state


class FeaturesAsTensors(nn.Module):
    """torchmetrics 1.9 expects the embeddings that transformers 4 returned."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.config = model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return self.model.get_image_features(pixel_values=pixel_values).pooler_output

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask).pooler_output


@pytest.fixture
def tiny_open_clip(tmp_path) -> dict[str, Tensor]:
    """A small model under a name of its own, whose weights lie in tmp_path/weights.pt."""
    (tmp_path / "ViT-tiny-for-parity.json").write_text(json.dumps(model_config(TINY)))
    open_clip.add_model_config(tmp_path / "ViT-tiny-for-parity.json")
    settings_of.cache_clear()
    state = {key: value.float() for key, value in random_state(clip_shapes(TINY), seed=5).items()}
    save(state, tmp_path / "weights.pt", nested=True)
    return state


def test_open_clip_score(tmp_path, tiny_open_clip, compare: Compare):
    column = "open_clip_score[ViT-tiny-for-parity]"
    scorer = load_scorer(column, {"weights": str(tmp_path / "weights.pt")})
    images = pictures(5)
    pixels = [open_clip.image_transform(TINY.image, is_train=False)(image) for image in images]
    expected = 100 * their_cosine(theirs(TINY, tiny_open_clip), pixels, PROMPTS).clamp(min=0)
    assert (expected > 0).any()
    compare(ANY_OPEN_CLIP, "open_clip_torch (the same network)", scorer.score(images, PROMPTS), expected, 1e-5)
    assert scorer.truncated(PROMPTS) == [4] and scorer.count_tokens(["a cat"]) == [4]
    assert scorer.column == column and len(scorer.fingerprint()) == 64 and list(scorer.files) == ["weights.pt"]
    (need, package) = diagnose([column], {column: {"weights": str(tmp_path / "weights.pt")}})
    assert need.found == str(tmp_path / "weights.pt") and package.found == "installed"


def test_a_tag_says_how_its_weights_were_trained(tmp_path, tiny_open_clip, monkeypatch):
    """The same file under three tags: open_clip's own loading of the first, another GELU, another normalisation."""
    folder = tmp_path / "someone" / "tiny"
    folder.mkdir(parents=True)
    (tmp_path / "weights.pt").rename(folder / "open_clip_pytorch_model.bin")
    plain = {"hf_hub": "someone/tiny/", "mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic"}
    tags = {"plain": plain, "quick": {**plain, "quick_gelu": True}, "grey": {**plain, "mean": (0.5,) * 3}}
    monkeypatch.setitem(sys.modules["open_clip.pretrained"]._PRETRAINED, "ViT-tiny-for-parity", tags)
    assert list(settings_of("ViT-tiny-for-parity")) == list(tags)
    monkeypatch.setenv("SEPPO_WEIGHTS_DIR", str(tmp_path))
    images, scores = pictures(3), {}
    for tag in tags:
        scorer = load_scorer(f"open_clip_score[ViT-tiny-for-parity:{tag}]")
        assert scorer.column == f"open_clip_score[ViT-tiny-for-parity:{tag}]"
        scorer.options["clamp"] = False
        scores[tag] = scorer.score(images, PROMPTS[:3])
    monkeypatch.setattr(
        "open_clip.factory.download_pretrained", lambda *args, **options: str(folder / "open_clip_pytorch_model.bin")
    )
    network, _, chain = open_clip.create_model_and_transforms("ViT-tiny-for-parity", pretrained="grey")
    expected = their_cosine(network.eval(), [chain(image) for image in images], PROMPTS[:3])
    torch.testing.assert_close(scores["grey"], 100 * expected, rtol=0, atol=1e-4)
    pixels = [open_clip.image_transform(TINY.image, is_train=False)(image) for image in images]
    expected = their_cosine(theirs(replace(TINY, quick_gelu=True), tiny_open_clip), pixels, PROMPTS[:3])
    torch.testing.assert_close(scores["quick"], 100 * expected, rtol=0, atol=1e-4)
    assert (scores["plain"] - scores["quick"]).abs().max() > 1e-2 < (scores["plain"] - scores["grey"]).abs().max()
    file = str(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match="trained in different ways; name those that yours follow"):
        load_scorer("open_clip_score[ViT-tiny-for-parity]", {"weights": file})


def test_what_open_clip_does_not_know():
    with pytest.raises(ValueError, match="is not one of open_clip's"):
        load_scorer("open_clip_score[ViT-none]")
    with pytest.raises(ValueError, match=r"no weights 'nothing' of ViT-B-32; there are openai, .*laion2b"):
        load_scorer("open_clip_score[ViT-B-32:nothing]")
    (need, _) = diagnose(["open_clip_score[ViT-B-16-SigLIP:webli]"])
    assert need.published == "timm/ViT-B-16-SigLIP" and "open_clip_model.safetensors" in need.files
    assert recipe_of("ViT-B-16-SigLIP", None)["mean"] == (0.5, 0.5, 0.5)
