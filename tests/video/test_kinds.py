"""Clips whose frames are easily decoded wrong: interlaced, HDR, transparent, of changing size, of pixels not square."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from seppo_video.frames import ClipError, open_clip, read_frames
from tests.video.clips import encode, moving


def same(frame: np.ndarray) -> np.ndarray:
    return frame


def square(moments: int, step: int = 3, rgb: tuple[int, int, int] = (220, 30, 30)) -> np.ndarray:
    """A square of one colour that moves over dark grey, (moments, 64, 96, 3)."""
    frames = np.full((moments, 64, 96, 3), 40, np.uint8)
    for moment in range(moments):
        frames[moment, 16:48, step * moment % 60 :][:, :30] = rgb
    return frames


def pan(moments: int, step: int) -> np.ndarray:
    """A rough wall that the camera passes, (moments, 64, 96, 3)."""
    wall = np.random.default_rng(0).normal(size=(64, 96 + moments * step + 8))
    # blurred in both directions, so that it is smooth from row to row
    wall = sum(np.roll(wall, (y, x), (0, 1)) for y in range(-3, 4) for x in range(-2, 3))
    pixels = np.clip(128 + 12 * wall, 0, 255).astype(np.uint8)
    return np.stack([np.repeat(pixels[:, i * step : i * step + 96, None], 3, 2) for i in range(moments)])


def woven(moments: np.ndarray) -> np.ndarray:
    """Two moments a frame, the earlier one in the even rows."""
    frames = moments[::2].copy()
    frames[:, 1::2] = moments[1::2, 1::2]
    return frames


def joined(path: Path, *sources: Path) -> Path:
    """The packets of several files in one, as recorders leave them; the first one's header holds for all."""
    with av.open(str(path), "w") as new:
        stream, end = None, 0
        for source in sources:
            with av.open(str(source)) as old:
                stream = stream or new.add_stream_from_template(old.streams.video[0])
                for packet in [packet for packet in old.demux(video=0) if packet.size]:
                    packet.pts, packet.dts, packet.stream = packet.pts + end, packet.dts + end, stream
                    new.mux(packet)
                end += round(1000 * 12 / 8)
    return path


@pytest.mark.parametrize(
    ("kind", "flags"),
    [(("libx264", "yuv420p"), {}), (("libx264", "yuv420p"), {"x264": "tff=1"}), (("mpeg2video", "yuv420p"), {})],
    ids=["not flagged", "flagged", "mpeg2"],
)
@pytest.mark.parametrize("step", [2, 4])
def test_combs_of_interlaced_clips_are_refused_by_name(tmp_path, kind, flags, step):
    path = encode(tmp_path / f"a.{'mp4' if kind[0] == 'libx264' else 'mpg'}", woven(square(24, step)), *kind, **flags)
    for reader in ("auto", "pyav"):
        with pytest.raises(ClipError, match=r"interlaced.*deinterlace"):
            read_frames(open_clip(path), [0, 4, 8, 11], same, reader)


def test_combs_of_a_fast_pan_are_refused_and_the_pan_itself_is_not(tmp_path):
    path = encode(tmp_path / "a.mp4", woven(pan(16, 5)), "libx264", "yuv420p")
    with pytest.raises(ClipError, match="interlaced"):
        read_frames(open_clip(path), [1, 4, 7], same)
    plain = encode(tmp_path / "b.mp4", pan(8, 10), "libx264", "yuv420p")
    assert len(read_frames(open_clip(plain), [1, 4, 7], same)) == 3


@pytest.mark.parametrize("name", ["stripes", "noise", "flagged"])
def test_what_only_looks_like_combs_is_read(tmp_path, name):
    y, x = np.mgrid[0:64, 0:96]
    blinds = [np.where((x - 5 * i) % 60 < 30, y % 2 * 150 + 40, 60) for i in range(12)]
    frames = {
        "stripes": np.repeat(np.array(blinds)[..., None], 3, 3).astype(np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), dtype=np.uint8),
        "flagged": square(12),
    }[name]
    path = encode(
        tmp_path / "a.mkv", frames, "libx264", "yuv420p", qp="1", **({"x264": "tff=1"} if name == "flagged" else {})
    )
    clip = open_clip(path)
    # whoever looks at the flag alone gets other chroma
    assert (clip.not_decord == "it is interlaced") == (name == "flagged")
    assert len(read_frames(clip, [1, 5, 9], same)) == 3


@pytest.mark.parametrize(("suffix", "codec"), [("vp9.webm", "libvpx-vp9"), ("vp8.webm", "libvpx")])
def test_clips_whose_size_changes_are_left_to_pyav(tmp_path, suffix, codec):
    large = encode(tmp_path / f"large.{suffix}", moving(12, 64, 96), codec, "yuv420p")
    small = encode(tmp_path / f"small.{suffix}", moving(12, 96, 64), codec, "yuv420p")
    clip = open_clip(joined(tmp_path / f"a.{suffix}", large, small))
    assert clip.not_decord == "the size of its frames may change"
    assert [frame.shape for frame in read_frames(clip, [0, 20], same)] == [(64, 96, 3), (96, 64, 3)]
    assert open_clip(large).not_decord is None


def test_transparent_webm_lies_on_white(tmp_path):
    for codec in ("libvpx-vp9", "libvpx"):
        path = tmp_path / f"{codec}.webm"
        rgba = np.concatenate([square(8), np.zeros((8, 64, 96, 1), np.uint8)], 3)
        rgba[:, 16:48, :, 3] = 255
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=8, options={"auto-alt-ref": "0", "crf": "4", "b": "2M"})
            stream.height, stream.width, stream.pix_fmt = 64, 96, "yuva420p"
            stream.metadata["alpha_mode"] = "1"
            for number, pixels in enumerate(rgba):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
                frame.pts, frame.time_base = number, Fraction(1, 8)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        for found in read_frames(open_clip(path), [0, 3, 7], same):
            assert (found[:14] > 250).all() and found[30, 90].max() < 60


@pytest.mark.parametrize(("ratio", "width"), [((64, 45), 137), ((8, 9), 85), ((639, 640), 96)])
def test_pixels_that_are_not_square_change_the_width(tmp_path, ratio, width):
    path = encode(tmp_path / "a.mp4", square(4), "libx264", "yuv420p", x264=f"sar={ratio[0]}\\:{ratio[1]}")
    clip = open_clip(path)
    assert [frame.shape for frame in read_frames(clip, [0, 3], same)] == [(64, width, 3)] * 2
    assert (clip.not_decord is None) == (width == 96)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("matrix", "red", "blue"),
    [("smpte170m", 0.299, 0.114), ("bt709", 0.2126, 0.0722), ("bt2020nc", 0.2627, 0.0593)],
)
def test_colours_come_back_from_every_matrix_and_range(tmp_path, matrix, red, blue, full):
    colours = np.array([(200, 40, 40), (40, 190, 60), (40, 60, 210), (235, 235, 235)])
    # ITU-T H.273, 8.3
    r, g, b = (colours / 255).T
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = np.stack([(b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)])
    planes = [255 * luma, *(255 * chroma + 128)] if full else [219 * luma + 16, *(224 * chroma + 128)]
    stripes = [np.tile(np.repeat(np.round(plane), 8), (32, 1)).astype(np.uint8) for plane in planes]
    told = f"qp=0:colormatrix={matrix}:fullrange={'on' if full else 'off'}:log-level=error"
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"x264-params": told})
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv444p"
        stream.codec_context.color_range = 2 if full else 1
        frame = av.VideoFrame.from_ndarray(np.stack(stripes), format="yuv444p")
        frame.color_range = 2 if full else 1
        for number in range(3):
            frame.pts, frame.time_base = number, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = open_clip(tmp_path / "a.mp4")
    for reader in ("auto", "pyav"):
        found = read_frames(clip, [1], same, reader)[0][16, 4::8]
        assert np.abs(found.astype(int) - colours).max() <= 3, (reader, found)


@pytest.mark.parametrize(
    ("told", "says"),
    [("transfer=smpte2084", r"HDR \(PQ\).*BT\.709"), ("transfer=arib-std-b67", r"HDR \(HLG\)"), ("", "without its")],
)
def test_hdr_is_refused_by_name(tmp_path, told, says):
    x264 = f"colormatrix=bt2020nc{':' * bool(told)}{told}"
    path = encode(tmp_path / "a.mp4", square(3), "libx264", "yuv420p10le", x264=x264)
    with pytest.raises(ClipError, match=says):
        open_clip(path)
    sdr = encode(
        tmp_path / "b.mp4", square(3), "libx264", "yuv420p10le", x264="colormatrix=bt2020nc:transfer=bt2020-10"
    )
    assert len(open_clip(sdr)) == 3
