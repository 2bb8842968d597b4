"""The one way in which picture files become RGB, for training and evaluation alike. Imports no torch."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

T = TypeVar("T")

MAX_PIXELS = 128 * 1024**2
"""Larger pictures are refused before they are decoded: a file of a few kB can claim billions of pixels."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "HEIF")
"""The formats that are read: Pillow also knows some that run other programs (EPS) and some that any bytes match."""
LARGE = 24 * 1024**2
"""Pixels of a picture that is decoded and used while no other such one is: it takes some 9 bytes a pixel."""
STRIP = 4 * 1024**2
"""Pixels that are converted at a time."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PROFILE_OF = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
"""Colour space of the profile that pixels of a mode can have."""
_SEEN = 2
"""Levels by which a colour must change for a profile to count as another one than sRGB: makers round their tables."""
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
"""Chunks of a PNG that no pixel depends on."""
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_large = Lock()


class PictureError(ValueError):
    """A picture that cannot be used, with the reason."""


def read_picture(content: Path | bytes) -> Image.Image:
    """A picture file, or its bytes, as RGB and upright, without what the file said about it (`info`).

    EXIF's orientation is applied, and ignored where EXIF is broken. Transparent parts become white. Embedded colour
    profiles are converted to sRGB (perceptual intent), and ignored where they are broken or meant for another mode. 16
    bits are scaled to 8; greys, palettes and CMYK become RGB; of an animation the first frame is taken. HEIC is read
    if pillow-heif is installed.

    Raises PictureError for what is larger than MAX_PIXELS or in a format that is not read, MemoryError if the memory
    is full, and whatever Pillow raises for damage.
    """
    return use_picture(content, lambda image: image)


def use_picture(content: Path | bytes, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the picture that `read_picture` gives; threads do so one after the other for large ones."""
    for kinds in ((), _TEXTS):
        try:
            return _used(_without(content, kinds), use)
        except ValueError as error:
            # Pillow takes long texts and profiles for an attack
            if "MAX_TEXT" not in str(error):
                raise
    return _used(_without(content, (*_TEXTS, b"iCCP")), use)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as RGB in sRGB, transparency over white. Raises PictureError for modes without a fixed range."""
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not deep:
        raise PictureError(f"mode {image.mode} has no fixed range; save it with 8 or 16 bits")
    profile = _profile(image)
    converted = Image.new("RGB", image.size)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if deep:
            # Pillow's own conversion clips at 255 instead of scaling 65535 down to it
            values = np.asarray(strip).astype(np.int64)
            hidden = values == image.info.get("transparency", -1)
            strip = Image.fromarray(np.where(hidden, 255, values >> 8).astype(np.uint8))
        converted.paste(_strip_to_rgb(strip, profile), (0, top))
    return converted


def _used(content: Path | bytes, use: Callable[[Image.Image], T]) -> T:
    try:
        opened = Image.open(BytesIO(content) if isinstance(content, bytes) else content, formats=_formats())
    except Image.DecompressionBombError as error:
        # Pillow's own limit, which comes first
        pixels = re.search(r"\d+", str(error))
        raise PictureError(_too_large(f"a size of {int(pixels[0]):,}" if pixels else "its size")) from error
    except UnidentifiedImageError as error:
        if (reason := _unread(content)) is not None:
            raise PictureError(reason) from error
        raise
    pixels = opened.width * opened.height
    with _large if LARGE < pixels <= MAX_PIXELS else nullcontext(), opened:
        if pixels > MAX_PIXELS:
            raise PictureError(_too_large(f"{opened.width}x{opened.height}"))
        return use(_decoded(opened))


def _decoded(opened: Image.Image) -> Image.Image:
    opened.load()
    try:
        method = _UPRIGHT.get(opened.getexif().get(_ORIENTATION))
    except MemoryError:
        raise
    # Pillow answers broken EXIF with whatever comes to hand, and viewers show the picture as it is stored
    except Exception:
        method = None
    image = opened if method is None else opened.transpose(method)
    image.format = opened.format
    if image is not opened:
        # frees its pixels
        opened.close()
    return to_rgb(image)


def _strip_to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if profile is not None:
        plain = image if image.mode in _PROFILE_OF else image.convert(_plain_mode(image.mode))
        transform = _to_srgb(profile, plain.mode)
        if transform is not None:
            image = transform.apply(plain)
            if alpha is not None:
                image.putalpha(alpha)
    if alpha is None:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _profile(image: Image.Image) -> bytes | None:
    """The embedded profile, if it means other colours than sRGB does."""
    profile = image.info.get("icc_profile")
    return profile if profile and _to_srgb(profile, _plain_mode(image.mode)) is not None else None


def _plain_mode(mode: str) -> str:
    """The mode without transparency or palette that a profile is applied to."""
    return {"LA": "L", "1": "L", "CMYK": "CMYK", "L": "L"}.get(mode, "L" if mode.startswith("I") else "RGB")


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What makes sRGB of pixels with `profile`; None if it is sRGB's, broken, or meant for another mode."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space != _PROFILE_OF[mode]:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    if mode == "CMYK":
        return transform
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 1, 3) if mode == "RGB" else levels[:, None]
    colours = Image.fromarray(grid)
    change = np.asarray(transform.apply(colours)).astype(int) - np.asarray(colours.convert("RGB"))
    return transform if np.abs(change).max() > _SEEN else None


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    # AVIF came to Pillow late
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _too_large(what: str) -> str:
    return f"{what} is over the limit of {MAX_PIXELS:,} pixels; scale the picture down"


def _unread(content: Path | bytes) -> str | None:
    """What to do about a format that would be read with another library; None for any other content."""
    if isinstance(content, bytes):
        head = content[:64]
    else:
        with content.open("rb") as file:
            head = file.read(64)
    if head[4:8] != b"ftyp":
        return None
    if b"avif" in head or b"avis" in head:
        return "AVIF is not read by this Pillow; pip install --upgrade pillow, or convert it to PNG or JPEG"
    if head[8:12] in _HEIC:
        return 'HEIC is not read; pip install "seppo[heic]", or convert it to PNG or JPEG'
    return None


def _without(content: Path | bytes, kinds: tuple[bytes, ...]) -> Path | bytes:
    """A PNG without its chunks of these kinds."""
    if not kinds:
        return content
    data = content if isinstance(content, bytes) else content.read_bytes()
    kept, at = [data[:8]], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in kinds:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)
