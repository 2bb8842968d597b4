"""Image scorers beside open_clip, torchvision, timm and torchmetrics, at reduced width with random weights."""

import json
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
from torchmetrics.functional.multimodal import clip_score
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as VF
from transformers import CLIPImageProcessor, CLIPProcessor

from benchmarks.scorers.aesthetic import Aesthetic
from benchmarks.scorers.clip_score import CLIPScore
from benchmarks.scorers.hpsv2 import HPSv2
from benchmarks.scorers.images import CLIP_MEAN, CLIP_STD, Framing
from benchmarks.scorers.layouts import clip_state
from benchmarks.scorers.open_clip_score import OpenCLIPScore
from benchmarks.scorers.pickscore import PickScore
from benchmarks.scorers.prompts import CLIP_H_TOKENIZER, Prompts, clip_tokenizer, open_clip_clean
from tests.benchmarks.scorers import by_hand
from tests.benchmarks.scorers.fixtures import TINY_BLIP, clip_config, pictures, save
from tests.benchmarks.scorers.layouts_by_hand import (
    TINY,
    VIT_H_14,
    VIT_L_14,
    Clip,
    blip_shapes,
    clip_shapes,
    head_shapes,
    random_state,
)
from tests.benchmarks.scorers.test_image_reward import load as load_image_reward
from tests.benchmarks.scorers.test_image_reward import rows as bert_rows
from tests.parity.clip_vocabulary import write_vocabulary

pytestmark = pytest.mark.parity
Compare = Callable[[str, str, Tensor, Tensor, float], None]

PROMPTS = [
    "a red cat on the moon",
    "A  PAINTING of an ocean,\n with birds; 8k!!",
    "“Curly” quotes — it’s a dash… and caf\u00c3\u00a9, 日本語, 🙂",
    "salt &amp;amp; pepper &lt;b&gt; don't we'll 12345",
    "very " * 90 + "long",
]
SIZES = [(45, 61), (61, 45), (32, 32), (20, 97), (224, 225), (33, 50), (31, 64)]
NORMALISE = transforms.Normalize(CLIP_MEAN, CLIP_STD)


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def model_config(clip: Clip) -> dict:
    return {
        "embed_dim": clip.embed,
        "vision_cfg": {
            "image_size": clip.image,
            "layers": clip.layers,
            "width": clip.width,
            "head_width": clip.width // clip.heads,
            "patch_size": clip.patch,
        },
        "text_cfg": {
            "context_length": clip.context,
            "vocab_size": clip.vocabulary,
            "width": clip.text_width,
            "heads": clip.text_heads,
            "layers": clip.text_layers,
        },
        "quick_gelu": clip.quick_gelu,
    }


def theirs(clip: Clip, state: dict[str, Tensor]) -> open_clip.CLIP:
    model = open_clip.CLIP(**model_config(clip)).eval()
    model.load_state_dict({key: value.float() for key, value in state.items()}, strict=True)
    return model


@torch.no_grad()
def their_cosine(model: open_clip.CLIP, pixels: list[Tensor], prompts: list[str]) -> Tensor:
    tokens = open_clip.get_tokenizer("ViT-H-14")(prompts)
    image = model.encode_image(torch.stack(pixels), normalize=True)
    return (image * model.encode_text(tokens, normalize=True)).sum(-1)


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
    original = transforms.Compose(
        [transforms.Resize(31, InterpolationMode.BICUBIC), transforms.CenterCrop(31), transforms.ToTensor(), NORMALISE]
    )
    for size in SIZES:
        ours = Framing("crop", 31)(noise(*size))
        compare("pixels, crop", "torchvision on PIL", ours, original(noise(*size)), 1e-6)


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


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_hps(version, tmp_path, words, compare: Compare):
    state = {key: value.float() for key, value in random_state(clip_shapes(TINY)).items()}
    name = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}[version]
    file = save(state, tmp_path / name, nested=True)
    scorer = HPSv2.load(file, words, version=version, config=clip_config(TINY))
    images = pictures(5)
    expected = their_cosine(theirs(TINY, state), [letterbox(image, TINY.image) for image in images], PROMPTS)
    compare(f"HPS v{version}", "open_clip_torch", scorer.score(images, PROMPTS), expected, 2e-6)


def test_pickscore(tmp_path, words, compare: Compare):
    state = {key: value.float() for key, value in random_state(clip_shapes(TINY), seed=1).items()}
    save(clip_state(state), tmp_path / "pytorch_model.bin")
    config = clip_config(TINY)
    cosine, scaled = (PickScore.load(tmp_path, words, scaled=flag, config=config) for flag in (False, True))
    images, prompts = pictures(5), ["a cat", "Two dogs.", "the moon", PROMPTS[1], PROMPTS[4]]
    # its own test compares these pixels with transformers' PIL processor
    pixels = [cosine.framing(image) for image in images]
    expected = their_cosine(theirs(TINY, state), pixels, prompts)
    compare("PickScore, cosine", "open_clip_torch", cosine.score(images, prompts), expected, 2e-6)
    compare("PickScore, scaled", "open_clip_torch", scaled.score(images, prompts), 100 * expected, 2e-4)


def test_aesthetic(tmp_path, compare: Compare):
    clip = replace(TINY, quick_gelu=True)
    state = {key: value.float() for key, value in random_state(clip_shapes(clip), seed=2).items()}
    head = {key: value.float() for key, value in random_state(head_shapes(clip.embed), seed=3).items()}
    file = save(head, tmp_path / "sac+logos+ava1-l14-linearMSE.pth")
    scorer = Aesthetic.load(file, save(clip_state(state), tmp_path / "clip.bin"), config=clip_config(clip))
    images = pictures(5)
    original = transforms.Compose(
        [transforms.Resize(32, InterpolationMode.BICUBIC), transforms.CenterCrop(32), transforms.ToTensor(), NORMALISE]
    )
    with torch.no_grad():
        embedding = theirs(clip, state).encode_image(torch.stack([original(x) for x in images]), normalize=True)
    mlp = nn.Sequential(
        nn.Linear(12, 1024), nn.Linear(1024, 128), nn.Linear(128, 64), nn.Linear(64, 16), nn.Linear(16, 1)
    )
    mlp.load_state_dict(
        {
            f"{new}.{kind}": head[f"layers.{old}.{kind}"]
            for new, old in enumerate((0, 2, 4, 6, 7))
            for kind in ("weight", "bias")
        }
    )
    with torch.no_grad():
        compare("LAION aesthetic", "open_clip_torch", scorer.score(images, [""] * 5), mlp(embedding)[:, 0], 2e-6)


def test_clip_score(tmp_path, words, compare: Compare):
    clip = replace(TINY, quick_gelu=True)
    state = {key: value.float() for key, value in random_state(clip_shapes(clip), seed=6).items()}
    tokenizer, _ = clip_tokenizer(words, CLIP_H_TOKENIZER)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    scorer = saved_clip(tmp_path, clip, state, tokenizer, processor)
    images = [image.resize((32, 32)) for image in pictures(4)]
    tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
    prompts = ["a cat", "Two dogs.", "the moon", PROMPTS[0]]
    both = CLIPProcessor(processor, tokenizer)
    for image, tensor, prompt in zip(images, tensors, prompts, strict=True):
        ours = scorer.score([image], [prompt])[0]
        expected = clip_score(tensor, prompt, lambda: (FeaturesAsTensors(scorer.model), both))
        compare("CLIPScore", "torchmetrics", ours, expected.detach(), 2e-4)
    expected = their_cosine(theirs(clip, state), [scorer.framing(image) for image in images], prompts)
    compare("CLIPScore", "open_clip_torch", scorer.score(images, prompts), 100 * expected.clamp(min=0), 2e-4)


def saved_clip(folder: Path, clip: Clip, state: dict[str, Tensor], tokenizer, processor) -> CLIPScore:
    config = clip_config(clip)
    config.architectures = ["CLIPModel"]
    config.save_pretrained(folder)
    save(clip_state(state), folder / "pytorch_model.bin")
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return CLIPScore.load(folder)


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


def test_open_clip_score(tmp_path, compare: Compare):
    (tmp_path / "ViT-tiny-for-parity.json").write_text(json.dumps(model_config(TINY)))
    open_clip.add_model_config(tmp_path / "ViT-tiny-for-parity.json")
    state = {key: value.float() for key, value in random_state(clip_shapes(TINY), seed=5).items()}
    file = save(state, tmp_path / "weights.pt", nested=True)
    scorer = OpenCLIPScore.load("ViT-tiny-for-parity", file, scale=1.0, clamp=False)
    images = pictures(5)
    pixels = [open_clip.image_transform(TINY.image, is_train=False)(image) for image in images]
    expected = their_cosine(theirs(TINY, state), pixels, PROMPTS)
    compare(
        "CLIPScore of open_clip models",
        "open_clip_torch (the same network)",
        scorer.score(images, PROMPTS),
        expected,
        1e-6,
    )
    assert scorer.truncated(PROMPTS) == [4] and scorer.count_tokens(["a cat"]) == [4]
    assert scorer.column == "open_clip_score_vit_tiny_for_parity" and len(scorer.fingerprint()) == 64
    with pytest.raises(ValueError, match="is not one of open_clip's"):
        OpenCLIPScore.load("ViT-none", file)
    with pytest.raises(FileNotFoundError, match=r"is no file; pretrained ones of ViT-B-32: .*laion2b"):
        OpenCLIPScore.load("ViT-B-32", "nothing")


def test_image_reward(tmp_path, compare: Compare):
    state = {key: value.float() for key, value in random_state(blip_shapes(TINY_BLIP)).items()}
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(TINY_BLIP.context)[None]
    scorer = load_image_reward(tmp_path, state, torch.float32)
    images, prompts = pictures(3), ["a red cat", "the dog on the moon", "cat " * 50]
    pixels = scorer.framing.batch(images)
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
        compare("ImageReward, vision tower", "timm", seen, tower.forward_features(pixels), 1e-5)
    raw = by_hand.image_reward(
        {k: v.double() for k, v in state.items()}, TINY_BLIP, pixels.double(), *bert_rows(*prompts)
    )
    expected = (raw - 0.16717362830052426) / 1.0333394966054072
    compare("ImageReward", "a second derivation in float64", scorer.score(images, prompts), expected, 1e-5)


def test_normalising_is_not_trivial():
    # the comparisons above would also pass on embeddings that do not depend on the input
    state = random_state(clip_shapes(TINY))
    pixels = torch.stack([letterbox(image, TINY.image) for image in pictures(5)]).double()
    embeddings = F.normalize(by_hand.clip_image(state, TINY, pixels), dim=-1)
    assert (embeddings @ embeddings.t()).min() < 0.95
