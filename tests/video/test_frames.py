from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from seppo_video.frames import ClipError, open_clip, read_frames, write_clip
from tests.video.clips import copied_from, decoded, encode, moving, rotated

FRAMES = moving(37)
UNEVEN = [0]
for step in [20, 40, 100, 333] * 9:
    UNEVEN.append(UNEVEN[-1] + step)

# name: what to write, and whether decord gives the same frames
CLIPS = {
    "b_frames.mp4": (("libx264", "yuv420p"), {"bf": "3", "g": "12"}, True),
    "open_gop.mp4": (("libx264", "yuv420p"), {"x264": "open-gop=1:keyint=10:bframes=3"}, False),
    "full_chroma.mp4": (("libx264", "yuv444p"), {"qp": "0"}, True),
    "uneven.mp4": (("libx264", "yuv420p"), {"times": UNEVEN, "bf": "3", "g": "9"}, True),
    "uneven.mkv": (("libx264", "yuv420p"), {"times": UNEVEN, "bf": "3", "g": "9"}, True),
    "fragments.mp4": (("libx264", "yuv420p"), {"container_options": {"movflags": "frag_keyframe+empty_moov"}}, True),
    "vp8.webm": (("libvpx", "yuv420p"), {"auto-alt-ref": "1", "lag-in-frames": "16"}, True),
    "vp9.webm": (("libvpx-vp9", "yuv420p"), {"auto-alt-ref": "1", "lag-in-frames": "16"}, True),
    "ffv1.mkv": (("ffv1", "bgr0"), {}, True),
    "ffv1_yuv.mkv": (("ffv1", "yuv444p"), {}, True),
    "b_frames.avi": (("libx264", "yuv420p"), {"bf": "2", "g": "9"}, False),
    "b_frames.ts": (("libx264", "yuv420p"), {"bf": "2", "g": "9"}, False),
    "mpeg2.mpg": (("mpeg2video", "yuv420p"), {"bf": "2", "g": "9"}, False),
    "raw.h264": (("libx264", "yuv420p"), {"form": "h264", "bf": "2"}, False),
    "ten_bits.mp4": (("libx264", "yuv420p10le"), {}, False),
    "av.gif": (("gif", "rgb8"), {}, False),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: encode(folder / name, FRAMES, *kind, **options) for name, (kind, options, _) in CLIPS.items()}


def same(frame: np.ndarray) -> np.ndarray:
    return frame


@pytest.mark.parametrize("name", CLIPS)
def test_decord_and_pyav_give_every_frame_bit_for_bit(clips, name):
    expected = decoded(clips[name])
    clip = open_clip(clips[name])
    assert len(clip) == len(expected) == 37
    readers = ["auto", "pyav"]
    if CLIPS[name][2]:
        pytest.importorskip("decord")
        readers.append("decord")
    for reader in readers:
        assert (np.stack(read_frames(clip, list(range(37)), same, reader)) == expected).all()
        # far apart, so that the readers jump
        for some in ([0, 36], [11], [1, 13, 25], [36], [8, 9, 34]):
            assert (np.stack(read_frames(clip, some, same, reader)) == expected[some]).all()


@pytest.mark.parametrize("name", [name for name, (_, _, decord) in CLIPS.items() if decord is False])
def test_what_decord_gets_wrong_is_refused_by_name_and_read_by_pyav_otherwise(clips, name):
    with pytest.raises(ClipError, match="not read by decord"):
        read_frames(open_clip(clips[name]), [0], same, "decord")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_choice_of_frames(clips, data):
    name = data.draw(st.sampled_from(["b_frames.mp4", "open_gop.mp4", "uneven.mkv", "vp9.webm"]))
    some = sorted(data.draw(st.sets(st.integers(0, 36), min_size=1, max_size=5)))
    expected = decoded(clips[name])[some]
    for reader in ("auto", "pyav"):
        assert (np.stack(read_frames(open_clip(clips[name]), some, same, reader)) == expected).all()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_before_the_first_key_frame_do_not_count(tmp_path, clips, suffix):
    whole = open_clip(clips["b_frames.mp4"])
    cut = copied_from(tmp_path / f"cut.{suffix}", clips["b_frames.mp4"], skip=5)
    clip, expected = open_clip(cut), decoded(cut)
    assert len(clip) == len(expected) < len(whole) - 5
    for reader in ("auto", "pyav"):
        assert (np.stack(read_frames(clip, list(range(len(clip))), same, reader)) == expected).all()
    with pytest.raises(ClipError, match="key frames"):
        read_frames(clip, [0], same, "decord")


@pytest.mark.parametrize(
    ("matrix", "quarter_turns"),
    [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["90", "180", "270"],
)
def test_clips_of_turned_phones_stand_upright(tmp_path, clips, matrix, quarter_turns):
    clip = open_clip(rotated(tmp_path / "turned.mp4", clips["b_frames.mp4"], matrix))
    expected = np.rot90(decoded(clips["b_frames.mp4"])[5], quarter_turns)
    assert (read_frames(clip, [5], same)[0] == expected).all()


def test_transparent_gifs_lie_on_white_as_pictures_do(tmp_path):
    pictures = []
    for i in range(4):
        pixels = np.zeros((8, 8, 4), dtype=np.uint8)
        pixels[i : i + 4, 2:6] = (200, 30, 90, 255)
        pictures.append(Image.fromarray(pixels))
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], disposal=2, duration=100)
    clip = open_clip(tmp_path / "a.gif")
    found = read_frames(clip, [0, 1, 2, 3], same)
    for picture, frame in zip(pictures, found, strict=True):
        on_white = Image.alpha_composite(Image.new("RGBA", (8, 8), "white"), picture)
        assert (frame == np.asarray(on_white.convert("RGB"))).all()


def test_cover_art_is_not_a_clip(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ClipError, match="no video"):
        open_clip(tmp_path / "sound.mp4")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", ["b_frames.mp4", "front.mp4", "pieces.mp4", "uneven.mkv", "vp9.webm", "av.gif"])
def test_truncated_clips_are_refused(tmp_path, clips, name, share):
    # pieces are coded by mpeg4, which writes the same bytes every time: cut between two packets they would be whole
    kinds = {"front.mp4": ("libx264", "faststart"), "pieces.mp4": ("mpeg4", "frag_keyframe+empty_moov")}
    if name in kinds:
        codec, flags = kinds[name]
        source = encode(tmp_path / name, FRAMES, codec, "yuv420p", container_options={"movflags": flags})
    else:
        source = clips[name]
    content = source.read_bytes()
    path = tmp_path / f"short.{name.split('.')[1]}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ClipError, match=r"truncated|cannot be read|no frames|no video"):
        clip = open_clip(path)
        read_frames(clip, list(range(len(clip))), same)


@pytest.mark.parametrize("reader", ["auto", "decord", "pyav"])
def test_damage_never_crashes_a_reader(tmp_path, clips, reader):
    pytest.importorskip("decord")
    content = clips["b_frames.mp4"].read_bytes()
    generator, refused = np.random.default_rng(0), 0
    for attempt in range(25):
        damaged, at = bytearray(content), int(generator.integers(0, len(content) - 200))
        damaged[at : at + 200] = generator.bytes(200)
        path = tmp_path / f"{attempt}.mp4"
        path.write_bytes(damaged)
        try:
            clip = open_clip(path)
            read_frames(clip, list(range(0, len(clip), 4)), same, reader)
        except ClipError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 10
    # the next clip is none the worse for it
    assert len(read_frames(open_clip(clips["b_frames.mp4"]), [0, 36], same, reader)) == 2


@pytest.mark.parametrize("content", [b"", b"not a clip" * 100, b"GIF89a", b"\x1aE\xdf\xa3" + bytes(100)])
def test_what_is_no_clip_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ClipError):
        open_clip(tmp_path / "a.mp4")


def test_huge_frames_are_refused_before_they_are_decoded(clips):
    with pytest.raises(ClipError, match=r"1,536.*1,000"):
        open_clip(clips["b_frames.mp4"], max_pixels=1000)


def test_frames_that_are_not_there_are_a_mistake_of_the_caller(clips):
    clip = open_clip(clips["b_frames.mp4"])
    for wrong in ([37], [-1], [3, 3], [5, 4]):
        with pytest.raises(IndexError, match=r"0\.\.36"):
            read_frames(clip, wrong, same)


def test_auto_goes_on_with_pyav_where_decord_fails(clips, monkeypatch):
    def fail(*_):
        yield np.zeros((32, 48, 3), np.uint8)
        raise RuntimeError("planted\nat length")

    monkeypatch.setattr("seppo_video.frames.decord_frames", fail)
    clip = open_clip(clips["b_frames.mp4"])
    assert (np.stack(read_frames(clip, [2, 30], same)) == decoded(clips["b_frames.mp4"])[[2, 30]]).all()
    if clip.not_decord is None:
        with pytest.raises(ClipError, match=r"planted$|not installed"):
            read_frames(clip, [2], same, "decord")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_lossless_clips_come_back_exactly_from_both_readers(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (6, 15, 21, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    write_clip(path, noise, fps=8)
    clip = open_clip(path)
    for reader in ("auto", "pyav"):
        assert (np.stack(read_frames(clip, list(range(6)), same, reader)) == noise).all()
    assert [entry.name for entry in tmp_path.iterdir()] == [f"a.{suffix}"]


def test_clips_for_viewing_have_even_sizes_and_look_the_same(tmp_path):
    smooth = (
        np.repeat(np.linspace(20, 220, 21, dtype=np.uint8)[None, None, :, None], 3, axis=3).repeat(15, 1).repeat(6, 0)
    )
    write_clip(tmp_path / "a.mp4", smooth, fps=8, lossless=False)
    found = np.stack(read_frames(open_clip(tmp_path / "a.mp4"), list(range(6)), same))
    assert found.shape == (6, 16, 22, 3)
    assert np.abs(found[:, :15, :21].astype(int) - smooth).max() < 16
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].format.name == "yuv420p" and container.streams.video[0].average_rate == 8
    with pytest.raises(ValueError, match=r"a\.webm.*\.mp4"):
        write_clip(tmp_path / "a.webm", smooth, fps=8)
