"""Pixels against transformers' PIL processor and against geometry; torchvision's are compared in tests/parity."""

import numpy as np
import pytest
import torch
from PIL import Image

from seppo_core.judging.preprocess import CLIP_MEAN, CLIP_STD, Framing, as_pictures
from tests.benchmarks.scorers.fixtures import ClipProcessor, SiglipProcessor, pictures

SIZES = [(45, 61), (61, 45), (32, 32), (20, 97), (224, 225), (33, 50)]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_crop_is_transformers_own(size):
    processor = ClipProcessor(size={"shortest_edge": 31}, crop_size={"height": 31, "width": 31})
    image = noise(*size)
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    framing = Framing.from_config({"size": {"shortest_edge": 31}, "crop_size": 31, "do_resize": True})
    torch.testing.assert_close(framing(image), expected, rtol=0, atol=1e-6)


def test_squash_is_transformers_own():
    processor = SiglipProcessor(size={"height": 24, "width": 24})
    config = {"size": {"height": 24, "width": 24}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    framing = Framing.from_config(config)
    for size in SIZES:
        expected = processor(noise(*size), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(framing(noise(*size)), expected, rtol=0, atol=1e-6)


def test_an_odd_margin_begins_where_each_original_begins():
    # 3 columns too many: torchvision begins at round(1.5) = 2, transformers at 3 // 2 = 1
    columns = np.zeros((4, 7, 3), dtype=np.uint8)
    columns[:, :, 0] = range(7)
    image = Image.fromarray(columns)
    plain = {"size": 4, "mean": (0.0,) * 3, "std": (1 / 255,) * 3}
    assert Framing("crop", odd_margin="even", **plain)(image)[0, 0].round().tolist() == [2, 3, 4, 5]
    assert Framing("crop", odd_margin="low", **plain)(image)[0, 0].round().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("antialias", [True, False])
def test_letterbox_keeps_proportions_between_black_bars(antialias):
    white = Image.new("RGB", (100, 51), (255, 255, 255))
    pixels = Framing("letterbox", 20, antialias=antialias)(white)
    black = -torch.tensor(CLIP_MEAN) / torch.tensor(CLIP_STD)
    # 51 · 20/100 = 10.2 rows, so 10; the ten others lie half above and half below
    for row in range(20):
        value = (1 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD) if 5 <= row < 15 else black
        torch.testing.assert_close(pixels[:, row], value[:, None].expand(3, 20), rtol=0, atol=1e-5)


def test_letterbox_of_a_picture_of_the_right_size_is_the_picture():
    image = noise(20, 12)
    pixels = Framing("letterbox", 20, mean=(0,) * 3, std=(1,) * 3)(image)
    assert torch.equal(pixels[:, 4:16], torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)
    thread = Image.new("RGB", (900, 1))
    assert Framing("letterbox", 20)(thread).shape == (3, 20, 20)


def test_tensors_and_other_modes_become_pictures():
    values = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    for images in (values, values / 255, (values / 255).double()):
        rows = torch.stack([torch.from_numpy(np.array(picture)) for picture in as_pictures(images)])
        assert torch.equal(rows.permute(0, 3, 1, 2), values)
    grey = as_pictures([Image.new("L", (3, 3), 7), Image.new("RGBA", (3, 3), (1, 2, 3, 4))])
    assert [picture.mode for picture in grey] == ["RGB", "RGB"]
    # nearly clear: white, as where models are trained, and not the colour that it hides
    assert grey[1].getpixel((0, 0)) == (251, 251, 251)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), r"shape \(3, 4, 4\)"),
        (torch.zeros(1, 4, 4, 3), r"shape \(1, 4, 4, 3\)"),
        (torch.zeros(1, 3, 4, 4) - 1, r"reach from -1 to -1"),
        (torch.full((1, 3, 4, 4), float("nan")), r"reach from nan"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), r"type torch.int64"),
    ],
)
def test_other_tensors_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        as_pictures(images)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": {"height": 3, "width": 4}}, "equal sides"),
        ({"size": {"longest_edge": 4}}, "equal sides"),
        ({"resample": 1}, "resample=1"),
        ({"size": 8, "crop_size": 7}, "only equal ones"),
    ],
)
def test_unknown_processors_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Framing.from_config(config)


def test_batches_are_stacked():
    assert Framing("crop", 16).batch(pictures(5)).shape == (5, 3, 16, 16)
    with pytest.raises(ValueError, match="size=0"):
        Framing("crop", 0)
