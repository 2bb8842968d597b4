"""Samples on the report's page."""

import base64
import io
import re

import pytest
import torch
from PIL import Image

from benchmarks.evaluation.report.media import LONGEST, shown


@pytest.mark.parametrize("frames", [1, 8, 400])
def test_a_clip_of_any_length_is_one_strip_that_a_jpeg_can_hold(frames):
    pixels = torch.arange(frames, dtype=torch.uint8)[:, None, None, None].expand(frames, 3, 96, 128)
    page = str(shown(pixels, "a clip", 160))
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([\w+/=]+)", page).group(1))))
    width = picture.width // frames
    assert picture.width == frames * width <= LONGEST and width == min(128, LONGEST // frames)
    assert picture.height == round(width * 96 / 128)
    # the last frame is there, and is the last
    assert abs(picture.getpixel((picture.width - width // 2, picture.height // 2))[0] - (frames - 1) % 256) <= 2
