import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.data.source import BadItem
from seppo_video.animatediff import AnimateDiff
from seppo_video.data import ClipFolder, even_indices, window_indices
from seppo_video.frames import write_clip
from tests import tiny
from tests.video.clips import encode, moving


def captioned(folder: Path, *names: str) -> Path:
    rows = [json.dumps({"file_name": name, "caption": f"of {name}"}) for name in names]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """A clip of 20 frames, one of 5, one that is none."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_clip(folder / "long.mp4", moving(20), fps=8)
    write_clip(folder / "short.mp4", moving(5), fps=8)
    (folder / "broken.mp4").write_bytes((folder / "long.mp4").read_bytes()[:2000])
    return captioned(folder, "long.mp4", "short.mp4", "broken.mp4")


def frames_of(pixels: torch.Tensor) -> np.ndarray:
    return pixels.permute(1, 2, 3, 0).numpy()


def test_even_frames_of_the_whole_clip(folder):
    item = ClipFolder(folder, 32, 48, frames=8).item(0)
    # i · 19 / 7, rounded: 0, 2.71, 5.43, 8.14, 10.86, 13.57, 16.29, 19
    assert (frames_of(item.views["winner"].pixels) == moving(20)[[0, 3, 5, 8, 11, 14, 16, 19]]).all()
    assert item.views["winner"].pixels.dtype == torch.uint8 and item.views["winner"].crop == (32, 48, 0, 0, 32, 48)


def test_a_window_depends_on_seed_and_name_alone(folder):
    clip = moving(20)
    starts = set()
    for seed in range(30):
        item = ClipFolder(folder, 32, 48, frames=4, sampling="window", stride=3, seed=seed).item(0)
        found = frames_of(item.views["winner"].pixels)
        start = next(i for i in range(20) if (clip[i] == found[0]).all())
        assert (found == clip[start : start + 10 : 3]).all()
        starts.add(start)
    assert min(starts) == 0 and max(starts) == 10
    again = ClipFolder(captioned(folder, "short.mp4", "long.mp4"), 32, 48, 4, sampling="window", stride=3, seed=29)
    assert (frames_of(again.item(1).views["winner"].pixels) == found).all()


def test_frames_are_cropped_alike(folder):
    pixels, crop, *_ = ClipFolder(folder, 32, 32, frames=2).item(0).views["winner"]
    assert (frames_of(pixels) == moving(20)[[0, 19], :, 8:40]).all() and crop.left == 8


@pytest.mark.parametrize("reader", ["auto", "pyav"])
def test_short_and_broken_clips_are_rejected_with_the_reason(folder, reader):
    source = ClipFolder(folder, 32, 48, frames=8, reader=reader)
    with pytest.raises(BadItem, match=r"\b5 frames.*\b8\b"):
        source.item(1)
    with pytest.raises(BadItem, match="cannot be read"):
        source.item(2)
    window = ClipFolder(folder, 32, 48, frames=4, sampling="window", stride=7, reader=reader)
    with pytest.raises(BadItem, match=r"\b20 frames.*\b22\b.*stride of 7"):
        window.item(0)
    assert ClipFolder(folder, 32, 48, frames=5).item(1).views["winner"].pixels.shape == (3, 5, 32, 48)


def test_the_fingerprint_follows_what_changes_frames_and_not_the_reader(folder):
    def fingerprint(**options) -> str:
        return ClipFolder(folder, 32, 48, **{"frames": 4} | options).fingerprint()

    assert fingerprint() == fingerprint(reader="pyav") == fingerprint(seed=5) == fingerprint(stride=2)
    window = [fingerprint(sampling="window", **more) for more in ({}, {"seed": 5}, {"stride": 2})]
    assert len({fingerprint(), fingerprint(frames=5), *window}) == 5
    with pytest.raises(ValueError, match="stride 0"):
        ClipFolder(folder, 32, 48, 4, stride=0)


@given(st.integers(1, 300), st.integers(1, 64))
def test_even_indices_are_the_nearest_to_an_even_spread(length, frames):
    frames = min(length, frames)
    indices = even_indices(length, frames)
    assert len(set(indices)) == frames and indices == sorted(indices)
    if frames > 1:
        assert indices[0] == 0 and indices[-1] == length - 1
        assert all(abs(index - i * (length - 1) / (frames - 1)) <= 0.5 for i, index in enumerate(indices))
        # from either end the same clip, halves apart
        assert all(abs(length - 1 - a - b) <= 1 for a, b in zip(indices, reversed(indices), strict=True))


@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 50), st.integers(0, 2**31), st.text(max_size=8))
def test_window_indices_fit_and_repeat(frames, stride, spare, seed, name):
    length = (frames - 1) * stride + 1 + spare
    indices = window_indices(length, frames, stride, seed, name)
    assert indices == window_indices(length, frames, stride, seed, name)
    assert len(indices) == frames and 0 <= indices[0] and indices[-1] < length
    assert all(b - a == stride for a, b in pairwise(indices))


def test_from_clips_to_the_latents_of_animatediff(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    clip = moving(9, 64, 64)
    write_clip(data / "a.mkv", clip, fps=8)
    encode(data / "b.gif", clip, "gif", "rgb8")
    encode(data / "c.webm", clip, "libvpx-vp9", "yuv420p")
    (data / "d.mp4").write_bytes(b"no clip")
    source = ClipFolder(captioned(data, "a.mkv", "b.gif", "c.webm", "d.mp4"), 64, 64, frames=4)
    adapter = AnimateDiff(tiny.animatediff(tmp_path))
    manifest = prepare(adapter, source, tmp_path / "cache", model="tiny", flip=True, progress=False)
    cache = WinnerCache(tmp_path / "cache")
    assert (manifest.items, manifest.rejected, cache.kind, cache.latent_shape) == (3, 1, "video", (4, 4, 8, 8))
    pixels = torch.from_numpy(clip[[0, 3, 5, 8]]).permute(3, 0, 1, 2)[None] / 127.5 - 1
    for flipped in (False, True):
        # equal but for the last digits, which depend on the batch and on how the pixels lie in memory
        expected = adapter.encode(pixels.flip(-1) if flipped else pixels)
        found = cache.posterior([0], [flipped])
        torch.testing.assert_close(found.mean, expected.mean)
        torch.testing.assert_close(found.logvar, expected.logvar)
    assert cache.ids([1, 2]) == ["b.gif", "c.webm"]
