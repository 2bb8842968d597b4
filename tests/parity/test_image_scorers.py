"""Image scorers beside open_clip, torchvision and timm, at reduced width with random weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as VF

from seppo_core.judging.catalogue import SCORERS
from seppo_core.judging.checkpoint_keys import clip_state
from seppo_core.judging.preprocess import Framing
from seppo_core.judging.tokenize import CLIP_H_TOKENIZER, Prompts, clip_tokenizer, open_clip_clean
from tests.benchmarks.scorers import by_hand
from tests.benchmarks.scorers.fixtures import TINY_BLIP, clip_config, pictures, save
from tests.benchmarks.scorers.layouts_by_hand import (
    TINY,
    VIT_H_14,
    VIT_L_14,
    blip_shapes,
    clip_shapes,
    head_shapes,
    random_state,
)
from tests.benchmarks.scorers.test_image_reward import load as load_image_reward
from tests.benchmarks.scorers.test_image_reward import rows as bert_rows
from tests.parity.clip_vocabulary import write_vocabulary
from tests.parity.open_clip_models import NORMALISE, PROMPTS, pil_pixels, their_cosine, theirs, torchvision_crop

pytestmark = pytest.mark.parity
Compare = Callable[[str, str, Tensor, Tensor, float], None]

SIZES = [(45, 61), (61, 45), (32, 32), (20, 97), (224, 225), (33, 50), (31, 64)]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_tokens(words, compare: Compare):
    tokenizer, _ = clip_tokenizer(words, CLIP_H_TOKENIZER)
    ours = Prompts(tokenizer, clean=open_clip_clean).ids(PROMPTS)
    expected = open_clip.get_tokenizer("ViT-H-14")(PROMPTS)
    # open_clip pads with 0, transformers with the end mark; neither is read
    end = expected.argmax(-1, keepdim=True)
    read = torch.arange(77)[None] <= end
    compare("CLIP tokens", "open_clip_torch", ours * read, expected * read, 0)


@pytest.mark.parametrize(("name", "clip"), [("ViT-H-14", VIT_H_14), ("ViT-L-14", VIT_L_14)])
def test_published_names_and_shapes(name, clip):
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config(name))
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == clip_shapes(clip)


def test_crop_pixels(compare: Compare):
    for size in SIZES:
        ours = Framing("crop", 31)(noise(*size))
        (expected,) = torchvision_crop([noise(*size)], 31)
        compare("pixels, crop", "torchvision on PIL", ours, expected, 1e-6)


@pytest.mark.parametrize("antialias", [True, False])
def test_letterbox_pixels(antialias, compare: Compare):
    for size in SIZES:
        ours = Framing("letterbox", 31, antialias=antialias)(noise(*size))
        name = f"pixels, letterbox, antialias={antialias}"
        compare(name, "torchvision on tensors", ours, letterbox(noise(*size), 31, antialias), 2e-6)


def letterbox(image: Image.Image, size: int, antialias: bool = True) -> Tensor:
    """HPSv2's order of things with torchvision's functions."""
    pixels = VF.to_tensor(image)
    height, width = pixels.shape[1:]
    scale = size / max(height, width)
    new = [round(height * scale), round(width * scale)]
    pixels = VF.resize(pixels, new, InterpolationMode.BICUBIC, antialias=antialias)
    down, right = size - new[0], size - new[1]
    padding = [right // 2, down // 2, right - right // 2, down - down // 2]
    return NORMALISE(VF.pad(pixels, padding, fill=0))


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_hps(version, antialias, tmp_path, words, compare: Compare):
    state = {key: value.float() for key, value in random_state(clip_shapes(TINY)).items()}
    name = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}[version]
    file = save(state, tmp_path / name, nested=True)
    scorer = SCORERS[f"hps_v{version}{'' if antialias else '_noantialias'}"].load(file, words, config=clip_config(TINY))
    images = pictures(5)
    pixels = [letterbox(image, TINY.image, antialias) for image in images]
    expected = their_cosine(theirs(TINY, state), pixels, PROMPTS)
    compare(scorer.column, "open_clip_torch on torchvision pixels", scorer.score(images, PROMPTS), expected, 2e-6)


@pytest.mark.parametrize(("column", "scale"), [("pickscore_cos", 1), ("pickscore", 100)])
def test_pickscore(column, scale, tmp_path, words, compare: Compare):
    state = {key: value.float() for key, value in random_state(clip_shapes(TINY), seed=1).items()}
    save(clip_state(state), tmp_path / "pytorch_model.bin")
    scorer = SCORERS[column].load(tmp_path, words, config=clip_config(TINY))
    images, prompts = pictures(5), ["a cat", "Two dogs.", "the moon", PROMPTS[1], PROMPTS[4]]
    expected = scale * their_cosine(theirs(TINY, state), pil_pixels(images), prompts)
    against = "open_clip_torch on transformers PIL pixels"
    assert scorer.column == column
    compare(column, against, scorer.score(images, prompts), expected, 2e-6 * scale)


def their_mlp(state: dict[str, Tensor]) -> nn.Module:
    mlp = nn.Sequential(
        nn.Linear(12, 1024), nn.Linear(1024, 128), nn.Linear(128, 64), nn.Linear(64, 16), nn.Linear(16, 1)
    )
    mlp.load_state_dict(
        {
            f"{new}.{kind}": state[f"layers.{old}.{kind}"]
            for new, old in enumerate((0, 2, 4, 6, 7))
            for kind in ("weight", "bias")
        }
    )
    return mlp


@torch.no_grad()
@pytest.mark.parametrize("column", ["aesthetic", "aesthetic_v1"])
def test_aesthetic(column, tmp_path, compare: Compare):
    clip = replace(TINY, quick_gelu=True)
    state = {key: value.float() for key, value in random_state(clip_shapes(clip), seed=2).items()}
    if column == "aesthetic":
        head = {key: value.float() for key, value in random_state(head_shapes(clip.embed), seed=3).items()}
        judge, name = their_mlp(head), "sac+logos+ava1-l14-linearMSE.pth"
    else:
        judge, name = nn.Linear(12, 1), "sa_0_4_vit_l_14_linear.pth"
        # not torch's own start, which would depend on the tests before this one
        head = {"weight": torch.linspace(-1, 1, 12)[None], "bias": torch.tensor([0.1])}
        judge.load_state_dict(head)
    file = save(head, tmp_path / name)
    scorer = SCORERS[column].load(file, save(clip_state(state), tmp_path / "clip.bin"), config=clip_config(clip))
    images = pictures(5)
    pixels = torch.stack(torchvision_crop(images, 32))
    expected = judge(theirs(clip, state).encode_image(pixels, normalize=True))[:, 0]
    assert scorer.column == column and expected.std() > 1e-2
    compare(column, "open_clip_torch on torchvision pixels", scorer.score(images, [""] * 5), expected, 2e-6)


def test_image_reward(tmp_path, compare: Compare):
    state = {key: value.float() for key, value in random_state(blip_shapes(TINY_BLIP)).items()}
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(TINY_BLIP.context)[None]
    scorer = load_image_reward(tmp_path, state, torch.float32)
    images, prompts = pictures(3), ["a red cat", "the dog on the moon", "cat " * 50]
    pixels = torch.stack(torchvision_crop(images, TINY_BLIP.image))
    tower = timm.models.VisionTransformer(
        img_size=TINY_BLIP.image,
        patch_size=TINY_BLIP.patch,
        embed_dim=TINY_BLIP.width,
        depth=TINY_BLIP.layers,
        num_heads=TINY_BLIP.heads,
        num_classes=0,
    ).eval()
    prefix = "blip.visual_encoder."
    tower.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, strict=True)
    with torch.no_grad():
        seen = scorer.model.vision(pixel_values=pixels).last_hidden_state
        compare("ImageReward's vision tower", "timm", seen, tower.forward_features(pixels), 1e-5)
    raw = by_hand.image_reward(
        {k: v.double() for k, v in state.items()}, TINY_BLIP, pixels.double(), *bert_rows(*prompts)
    )
    expected = (raw - 0.16717362830052426) / 1.0333394966054072
    against = "a second derivation in float64 on torchvision pixels"
    compare(scorer.column, against, scorer.score(images, prompts), expected, 1e-5)


def test_normalising_is_not_trivial():
    # the comparisons above would also pass on embeddings that do not depend on the input
    state = random_state(clip_shapes(TINY))
    pixels = torch.stack([letterbox(image, TINY.image) for image in pictures(5)]).double()
    embeddings = F.normalize(by_hand.clip_image(state, TINY, pixels), dim=-1)
    assert (embeddings @ embeddings.t()).min() < 0.95
