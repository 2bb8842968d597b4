"""Pictures from shards and archives, down to the cache; bombs among them; and what the command line says of sources."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_image.__main__ import main
from seppo_image.data import Pictures
from tests.cache.winners import PixelAdapter
from tests.data.tables import faults, jpeg, opened
from tests.data.test_parquet import pick_a_pic
from tests.data.test_tars import tar
from tests.image.test_data import encoded, png_claiming

BOMB = png_claiming(12_000, 12_000)
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


def greys(pixels: torch.Tensor) -> int:
    assert pixels.shape == (3, 8, 8) and pixels.dtype == torch.uint8
    return round(pixels.float().mean().item())


def test_pick_a_pic_down_to_a_cache_of_pairs(tmp_path):
    rows = [(jpeg(10), jpeg(200), 1.0, "dark"), (jpeg(20), jpeg(210), 0.0, "light"), (jpeg(1), jpeg(2), 0.5, "same")]
    rows += [(jpeg(30), b"no picture", 1.0, "half"), (BOMB, jpeg(1), 0.0, "bomb"), (jpeg(40), jpeg(220), 1.0, "last")]
    pick_a_pic(tmp_path / "data" / "train-0.parquet", rows, row_group_size=2)
    source = opened(tmp_path / "data", Pictures(8, 8), supervision="pairs")
    manifest = prepare(PixelAdapter(), source, tmp_path / "cache", model="tiny", workers=3, progress=False)
    assert (manifest.form, manifest.items, manifest.rejected, manifest.left_out) == ("pairs", 3, 2, 1)
    cache = WinnerCache(tmp_path / "cache")
    assert cache.ids([0, 1, 2]) == [f"train-0.parquet:{row}" for row in (0, 1, 5)]
    winners, losers = (
        (cache.posterior([0, 1, 2], [False] * 3).mean * 127.5 + 127.5),
        (cache.posterior([0, 1, 2], [False] * 3, "loser").mean * 127.5 + 127.5),
    )
    assert torch.allclose(winners.mean((1, 2, 3)), torch.tensor([10.0, 210, 40]), atol=1)
    assert torch.allclose(losers.mean((1, 2, 3)), torch.tensor([200.0, 20, 220]), atol=1)
    rejected = (tmp_path / "cache" / "rejected.jsonl").read_text()
    assert '"tie"' in rejected and "jpg_1" in rejected and "over the limit of 134,217,728 pixels" in rejected


def test_tars_down_to_a_cache_of_winners(tmp_path):
    members = [("0.jpg", jpeg(10)), ("0.txt", "a"), ("1.png", BOMB), ("1.txt", "bomb"), ("2.webp", encoded("webp"))]
    tar(tmp_path / "data" / "00.tar", *members, ("2.json", {"caption": "b"}), ("/3.jpg", jpeg(3)))
    source = opened(tmp_path / "data", Pictures(8, 8))
    manifest = prepare(PixelAdapter(), source, tmp_path / "cache", model="tiny", workers=2, progress=False)
    assert (manifest.items, manifest.rejected) == (2, 2)
    assert WinnerCache(tmp_path / "cache").ids([0, 1]) == ["00.tar/0", "00.tar/2"]
    again = prepare(PixelAdapter(), opened(tmp_path / "data", Pictures(8, 8)), tmp_path / "cache", model="tiny")
    assert again == manifest


@pytest.mark.parametrize("form", ["EPS", "TGA", "PDF", "ICO"])
def test_formats_that_start_programs_or_that_anything_passes_for_are_not_read(tmp_path, form):
    path = tmp_path / f"a.{form.lower()}"
    Image.new("RGB", (16, 16)).save(path)
    tar(tmp_path / "a.tar", ("0.jpg", path.read_bytes()), ("0.txt", "a"))
    (bad,) = faults(opened(tmp_path / "a.tar", Pictures(8, 8)))
    assert "cannot identify image file" in bad.reason


def test_bytes_and_file_give_the_same_pixels(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("jpeg"))
    pictures = Pictures(12, 8)
    for content in (tmp_path / "a.jpg", encoded("jpeg")):
        pixels, framing, *_ = pictures.decode("a", content)
        assert framing[:2] == (64, 64)
        assert (np.asarray(pixels) == np.asarray(pictures.decode("a", encoded("jpeg"))[0])).all()


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text("run: r\nmodel: {base: a/b}\ndata: {source: s, cache: c, height: 64, width: 64}\n")
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--data.source owner/name", "data.source=owner/name is not a folder; put files and metadata.jsonl"),
        ("--data.source shards/x.tar.gz", "data.source=shards/x.tar.gz: x.tar.gz is none of"),
        ("--data.source shards/*.parquet", "data.source=shards/*.parquet matches no file"),
        (
            "--data.source shards --data.supervision pairs",
            "the data hold winners, which cannot be read as pairs",
        ),
        ("--data.source shards --data.expected_rows 5", "data.source=shards has 1 rows, data.expected_rows=5"),
        ("--data.source shards --data.pick random", "data.pick=random takes either of a pair as the winner"),
        (
            "--data.supervision pairs --data.pick random",
            "x.yaml: data.pick=random is for data.supervision=winners",
        ),
        ("--data.workers 0", "x.yaml: data.workers=0 must be at least 1"),
        ("--data.source not+an+id --data.format hub", "data.source=not+an+id"),
    ],
)
def test_sources_are_refused_in_one_line_before_anything_loads(
    tmp_path, config, monkeypatch, capsys, options, expected
):
    tar(tmp_path / "shards" / "a.tar", ("0.jpg", jpeg(1)), ("0.txt", "a"))
    (tmp_path / "shards" / "x.tar.gz").touch()
    monkeypatch.chdir(tmp_path)
    # offline it would be told of the base, which is not there, before
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert main(["prepare", "x.yaml", *options.split()]) == 2
    error = capsys.readouterr().err.strip()
    assert error.removeprefix("seppo-image: ").startswith(expected) and "\n" not in error
