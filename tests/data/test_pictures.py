"""What picture files hold beside plain pixels: profiles, transparency, EXIF, texts, and sizes that fill the memory."""

import json
import struct
import subprocess
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from seppo_core.data import pictures
from seppo_core.data.discover import find_source
from seppo_core.data.media import MediaSource
from seppo_core.data.open_records import open_folder
from seppo_core.data.pictures import PictureError, read_picture
from seppo_core.data.source import SourceLost
from seppo_image.data import Pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
ADOBE = np.array(((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))).T
"""To XYZ (D50) from the linear colours of Adobe RGB (1998), by its specification."""
SRGB = np.array(((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))).T


def stored(image: Image.Image, form: str = "png", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def adobe_profile() -> bytes:
    """A profile of three primaries and the exponent 563/256, as cameras write it (ICC.1:2001-04)."""

    def fixed(values: np.ndarray) -> bytes:
        return struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, 563, 0)
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"made\0" + bytes(79)}
    tags |= {b"cprt": b"text" + bytes(8), b"wtpt": b"XYZ " + bytes(4) + fixed(np.array((0.9642, 1, 0.8249)))}
    for number, name in enumerate("rgb"):
        tags[f"{name}XYZ".encode()] = b"XYZ " + bytes(4) + fixed(ADOBE[:, number])
        tags[f"{name}TRC".encode()] = curve
    table, body = b"", b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    size = 132 + len(table) + len(body)
    header = struct.pack(">I4sI", size, bytes(4), 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    return (
        (header + fixed(np.array((0.9642, 1, 0.8249)))).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    )


def to_adobe(pixels: np.ndarray) -> np.ndarray:
    """The numbers that stand for the colours of sRGB `pixels` in Adobe RGB."""
    value = pixels / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.round(255 * (linear @ (np.linalg.inv(ADOBE) @ SRGB).T).clip(0, 1) ** (256 / 563)).astype(np.uint8)


@pytest.mark.parametrize("form", ["png", "tiff", "webp"])
def test_colour_profiles_are_converted_to_srgb(form):
    colours = np.tile(np.array([[(220, 40, 40), (40, 200, 60), (40, 60, 220), (200, 160, 120)]], np.uint8), (4, 1, 1))
    alpha = np.full((4, 4, 1), 255, np.uint8)
    alpha[1] = 0
    options = {"icc_profile": adobe_profile()} | ({"lossless": True} if form == "webp" else {})
    found = np.asarray(read_picture(stored(Image.fromarray(to_adobe(colours)), form, **options)))
    assert np.abs(found.astype(int) - colours).max() <= 2
    found = np.asarray(read_picture(stored(Image.fromarray(np.dstack([to_adobe(colours), alpha])), form, **options)))
    assert np.abs(found[0].astype(int) - colours[0]).max() <= 2 and (found[1] == 255).all()


def test_profiles_of_srgb_broken_ones_and_those_of_another_mode_change_no_pixel():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, adobe_profile()[:200], b"none"):
        assert (np.asarray(read_picture(stored(Image.fromarray(PIXELS), icc_profile=profile))) == PIXELS).all()
    grey = Image.fromarray(PIXELS[..., 0])
    assert (np.asarray(read_picture(stored(grey, icc_profile=adobe_profile()))) == PIXELS[..., :1]).all()


def test_large_pictures_are_converted_in_strips_to_the_same_pixels(monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 256, (37, 11, 4), dtype=np.uint8)
    content = stored(Image.fromarray(pixels), icc_profile=adobe_profile())
    whole = np.asarray(read_picture(content))
    monkeypatch.setattr(pictures, "STRIP", 33)
    monkeypatch.setattr(pictures, "LARGE", 100)
    assert (np.asarray(read_picture(content)) == whole).all()


READ = """
import sys
from pathlib import Path
from seppo_core.data.pictures import read_picture
small, large = (Path(name).read_bytes() for name in sys.argv[1:])
# what getrusage says begins with the process that this one was forked from
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
read_picture(small)
before = peak()
read_picture(large)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_small_file_of_a_large_picture_takes_no_more_than_it_and_its_copy(tmp_path):
    sizes = (16, 16), (8000, 6000)
    files = [tmp_path / f"{width}.png" for width, _ in sizes]
    for file, size in zip(files, sizes, strict=True):
        Image.new("RGBA", size, (200, 40, 40, 128)).save(file, compress_level=1)
    assert files[1].stat().st_size < 2e6
    done = subprocess.run([sys.executable, "-c", READ, *map(str, files)], capture_output=True, text=True, check=True)
    # Pillow keeps both, RGBA and RGB, in four bytes a pixel; what a strip takes does not grow with the picture
    assert 0 < int(done.stdout) - 8 * 8000 * 6000 < 100e6


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
def test_long_texts_in_a_png_are_no_reason_to_reject_it(kind):
    text = b"node " * 300_000
    bodies = {
        "zTXt": b"workflow\0\0" + zlib.compress(text),
        "iTXt": b"workflow\0\1\0\0\0" + zlib.compress(text),
        "iCCP": b"printer\0\0" + zlib.compress(text),
    }
    content = with_chunk(stored(Image.fromarray(PIXELS)), kind.encode(), bodies[kind])
    assert (np.asarray(read_picture(content)) == PIXELS).all()


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("exif", [b"\x00\x08\x00\x02\x01\x12\x00\x03", b"II*\0", b"MM\0*\0\0\0\x08\0\x01\x01\x12"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_tells_no_orientation(form, exif):
    options = {"lossless": True} if form == "webp" else {}
    plain = stored(Image.fromarray(PIXELS), form, **options)
    content = stored(Image.fromarray(PIXELS), form, exif=b"Exif\0\0" + exif, **options)
    assert (np.asarray(read_picture(content)) == np.asarray(read_picture(plain))).all()


def test_the_transparent_value_of_16_bits_is_white():
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    content = with_chunk(stored(Image.fromarray(deep)), b"tRNS", struct.pack(">H", 7 * 257))
    expected = np.arange(256).reshape(16, 16)
    expected[0, 7] = 255
    assert (np.asarray(read_picture(content))[..., 1] == expected).all()


def test_heic_is_named_with_the_cure(monkeypatch):
    monkeypatch.setattr(pictures, "_formats", lambda: pictures.FORMATS[:-1])
    with pytest.raises(PictureError, match=r'HEIC is not read; pip install "seppo\[heic\]"'):
        read_picture(b"\x00\x00\x00\x24ftypheic\x00\x00\x00\x00mif1MiHEMiPrmiafMiHBheic" + bytes(4000))


@pytest.mark.parametrize("error", [MemoryError(), OSError("could not create decoder object")])
def test_a_full_memory_is_no_fault_of_the_file(tmp_path, monkeypatch, error):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "caption": "noise"}))
    source = MediaSource(open_folder(find_source(str(tmp_path))), Pictures(16, 16))

    def full(*_):
        raise error

    monkeypatch.setattr("seppo_core.data.media.memory_is_full", lambda: True)

    monkeypatch.setattr(Image.Image, "crop", full)
    with pytest.raises(SourceLost, match=r"a\.png: the memory is full.*data\.workers"):
        source.item(0)
