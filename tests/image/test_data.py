import json
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.data.source import BadItem
from seppo_image.data import ImageFolder
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def folder(path: Path, **files: Image.Image | bytes) -> Path:
    """A captioned folder; names are given with _ for the dot."""
    path.mkdir(exist_ok=True)
    rows = []
    for key, content in files.items():
        name = ".".join(key.rsplit("_", 1))
        if isinstance(content, bytes):
            (path / name).write_bytes(content)
        else:
            content.save(path / name)
        rows.append(json.dumps({"file_name": name, "caption": f"of {key}"}))
    (path / "metadata.jsonl").write_text("\n".join(rows))
    return path


def loaded(path: Path, height: int = 16, width: int = 16, **options) -> np.ndarray:
    return ImageFolder(path, height, width, **options).item(0).views["winner"].pixels.permute(1, 2, 0).numpy()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(form: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(PIXELS).resize((64, 64)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_come_back_exactly(tmp_path, form):
    buffer = BytesIO()
    Image.fromarray(PIXELS).save(buffer, form, **({"lossless": True} if form == "webp" else {}))
    assert (loaded(folder(tmp_path, **{f"a_{form}": buffer.getvalue()})) == PIXELS).all()


def test_exif_turns_a_picture_upright(tmp_path):
    exif, buffer = Image.Exif(), BytesIO()
    # 6: the top of the scene is at the right-hand side of the stored picture
    exif[0x0112] = 6
    Image.fromarray(PIXELS[:, :8]).save(buffer, "png", exif=exif)
    source = ImageFolder(folder(tmp_path, a_png=buffer.getvalue()), 8, 16)
    assert (source.item(0).views["winner"].pixels.permute(1, 2, 0).numpy() == np.rot90(PIXELS[:, :8], -1)).all()
    assert source.item(0).views["winner"].crop[:2] == (8, 16)


def test_transparency_lies_on_white(tmp_path):
    alpha = np.full((16, 16, 1), 255, dtype=np.uint8)
    alpha[:8] = 0
    alpha[0, 0] = 127
    found = loaded(folder(tmp_path, a_png=Image.fromarray(np.concatenate([PIXELS, alpha], axis=2))))
    assert (found[8:] == PIXELS[8:]).all() and (found[1:8] == 255).all()
    assert np.abs(found[0, 0] - (PIXELS[0, 0] * (127 / 255) + 128)).max() <= 1
    palette = Image.fromarray(PIXELS).quantize(8)
    palette.info["transparency"] = palette.getpixel((3, 5))
    assert (loaded(folder(tmp_path / "palette", a_gif=palette))[5, 3] == 255).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(PIXELS).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    assert (loaded(folder(tmp_path, a_tiff=image)) == expected).all()


def test_16_bits_are_scaled_not_clipped(tmp_path):
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) + 77
    assert (loaded(folder(tmp_path, a_png=Image.fromarray(deep))) == PIXELS[..., :1]).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded("png")[:600], "cannot be read"),
        (encoded("jpeg")[:-300], "truncated"),
        (encoded("webp")[:100], "cannot be read"),
        (b"", "it is empty"),
        (b"<html>not found</html>", "cannot identify"),
        (png_claiming(60_000, 60_000), r"3,600,000,000 is over the limit of 134,217,728 pixels; scale"),
        (png_claiming(12_000, 12_000), "over the limit of 134,217,728 pixels"),
        (Image.fromarray(PIXELS.astype(np.float32)[..., 0]), "no fixed range"),
    ],
    ids=["png", "jpeg", "webp", "empty", "html", "bomb", "large", "float"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_pictures_are_rejected_with_the_reason(tmp_path, content, reason):
    with pytest.raises(BadItem, match=reason) as bad:
        ImageFolder(folder(tmp_path, a_tiff=content), 16, 16).item(0)
    assert bad.value.file == "a.tiff" and "\n" not in bad.value.reason and str(tmp_path) not in bad.value.reason


def test_small_pictures_are_enlarged(tmp_path):
    path = folder(tmp_path, a_png=Image.fromarray(PIXELS))
    assert loaded(path, 32, 24).shape == (32, 24, 3)


def test_from_files_to_the_latents_of_stable_diffusion(tmp_path):
    pictures = [np.random.default_rng(i).integers(0, 256, (80, 64, 3), dtype=np.uint8) for i in range(3)]
    files = {f"{i}_png": Image.fromarray(picture) for i, picture in enumerate(pictures)}
    path = folder(tmp_path / "data", **files, broken_png=encoded("png")[:300])
    adapter = StableDiffusion(tiny.stable_diffusion(tmp_path))
    manifest = prepare(adapter, ImageFolder(path, 64, 64), tmp_path / "cache", model="tiny", flip=True, progress=False)
    cache = WinnerCache(tmp_path / "cache")
    assert (manifest.items, manifest.rejected, cache.latent_shape) == (3, 1, (4, 8, 8))
    pixels = torch.from_numpy(np.stack([picture[8:72] for picture in pictures])).permute(0, 3, 1, 2) / 127.5 - 1
    for flipped in (False, True):
        # equal but for the last digits, which depend on how the pixels lie in memory
        expected = adapter.encode(pixels.flip(-1) if flipped else pixels)
        found = cache.posterior([0, 1, 2], [flipped] * 3)
        torch.testing.assert_close(found.mean, expected.mean)
        torch.testing.assert_close(found.logvar, expected.logvar)
    expected = adapter.encode_prompts(["of 2_png", ""])["text"]
    torch.testing.assert_close(cache.condition([2, 0], [False, True])["text"], expected)
    torch.testing.assert_close(cache.unconditional()["text"], expected[1:])
