"""What `init` and `plan` advise of: items that are used too often, sizes that the base does not know, blurred items."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from seppo_core.config.training import LoopConfig
from seppo_core.data.discover import Found
from seppo_core.data.open_records import open_folder
from seppo_core.data.sizes import picture_sizes
from seppo_core.plan.advice import advice, native_size, of_sizes, often
from seppo_core.plan.report import gib
from seppo_core.plan.result import span
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.stable_diffusion import StableDiffusionModel

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def config(height: int = 512, width: int = 512, base: str = SD15, **loop) -> ImageConfig:
    return ImageConfig(
        run="r", model=StableDiffusionModel(base=base), loop=LoopConfig(**loop),
        data=ImageData(source="s", cache="c", height=height, width=width),
    )  # fmt: skip


def test_items_are_used_often_above_the_limit_alone():
    run = config(iterations=10, updates_per_iteration=20, batch_size=64)
    told = often(run, 20)
    assert "each of the 20 items is trained on 640 times" in told and "from 200 to about 31" in told
    # 12,800 uses of 128 items are the limit
    assert often(run, 128) is None and often(run, 127) is not None and often(run, None) is None
    # whose samples are new in every iteration
    judged = replace(run, loop=replace(run.loop, judge="a:b"), data=replace(run.data, supervision="prompts"))
    assert often(judged, 20) is None


def test_a_size_is_tiny_below_a_quarter_of_the_pixels_that_the_base_was_made_for():
    assert native_size(config()) == (512, 512) and native_size(config(base="a/b")) is None
    assert of_sizes(config(256, 256), []) == [] and of_sizes(config(64, 64, base="a/b"), []) == []
    (told,) = of_sizes(config(64, 128), [])
    assert f"64 x 128 is 3.1% of the pixels of 512 x 512, which {SD15} was made for" in told


def test_items_that_are_enlarged_are_counted():
    (told,) = advice(config(), 10**6, [(512, 512), (400, 2000), (256, 512), (100, 300)])
    assert "2 of 4 items looked at are enlarged to 512 x 512 by more than 1.5, at most 5.1 times" in told


@pytest.mark.parametrize("most", [3, 64])
def test_sizes_are_those_that_a_viewer_shows(tmp_path, most):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "b.jpg", exif=turned)
    (tmp_path / "c.png").write_bytes(b"no picture")
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("a house")
    records = open_folder(Found("folder", Path(tmp_path)))
    assert picture_sizes(records, most) == [(30, 40), (40, 30)]


def test_what_is_small_is_not_rounded_to_nothing():
    assert [span(hours) for hours in (0, 1e-5, 0.01, 0.02)] == [
        "0 seconds",
        "under a second",
        "36.0 seconds",
        "1.2 minutes",
    ]
    assert [gib(size) for size in (0, 2**20, 2**30)] == ["0.00 GiB", "1.00 MiB", "1.00 GiB"]
