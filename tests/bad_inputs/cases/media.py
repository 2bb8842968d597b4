"""Files that only some programs read, and a memory that is full."""

from pathlib import Path
from unittest import mock

from PIL import Image

from tests.bad_inputs.workspace import PREPARE, Case, after, options, rejected

HEIC = b"\x00\x00\x00\x24ftypheic\x00\x00\x00\x00mif1MiHEMiPrmiafMiHBheic" + bytes(4000)


def full_memory():
    """Pictures are larger than what is left."""
    return mock.patch.object(Image.Image, "crop", side_effect=MemoryError)


CASES = [
    Case("data", "a picture as iPhones save it", after(lambda: Path("pictures/0.png").write_bytes(HEIC), *PREPARE),
         status=0, says="HEIC is not read; pip install|cannot be read", reads=rejected),
    Case("data", "the memory is full while pictures are decoded", options("prepare", "--data.cache", "new"),
         says=r"the memory is full.*data\.workers", around=full_memory),
]  # fmt: skip
