"""Headers that say what does not hold: of some decord would end the process, and all clips after it with it."""

import struct
from pathlib import Path

import pytest

from seppo_video.frames import ClipError, open_clip, read_frames
from tests.video.clips import decoded, encode, moving


def patched(path: Path, box: bytes, offset: int, value: int) -> Path:
    """A copy with another number in the last box of a kind, `offset` bytes behind its beginning."""
    content = bytearray(path.read_bytes())
    struct.pack_into(">I", content, content.rindex(box) - 4 + offset, value)
    other = path.with_name(f"patched.{path.name}")
    other.write_bytes(content)
    return other


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clips") / "a.mp4", moving(12), "libx264", "yuv420p")


@pytest.mark.parametrize("count", [10_000_000, 2**31 - 1, 2**32 - 1])
def test_more_frames_than_bytes_are_refused_by_name(clip, count):
    with pytest.raises(ClipError, match=r"promises [\d,]+ frames in [\d,]+ bytes, which hold 12"):
        open_clip(patched(clip, b"stts", 16, count))


def test_other_counts_and_leaps_in_time_are_left_to_pyav(clip, tmp_path):
    found = open_clip(patched(clip, b"stts", 16, 17))
    assert found.not_decord == "its header counts 17 frames of 12"
    assert (read_frames(found, [3, 11], lambda frame: frame)[1] == decoded(clip)[11]).all()
    pieces = {"movflags": "frag_keyframe+empty_moov"}
    fragments = encode(tmp_path / "f.mp4", moving(24), "libx264", "yuv420p", container_options=pieces, g="8")
    assert open_clip(fragments).not_decord is None
    # the upper half of the last fragment's time
    assert open_clip(patched(fragments, b"tfdt", 12, 1000)).not_decord == "its times leap"


def test_titles_in_another_encoding_are_no_fault(clip, tmp_path):
    content = encode(tmp_path / "a.mkv", moving(3), "libx264", "yuv420p").read_bytes()
    at = content.rindex(b"Lavf")
    (tmp_path / "b.mkv").write_bytes(content[:at] + b"\xff\xfe\xe9\xe8" + content[at + 4 :])
    assert len(open_clip(tmp_path / "b.mkv")) == 3
