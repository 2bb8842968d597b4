"""The toy sets as files."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.experiments.toy.task import captions
from benchmarks.experiments.toy.task.mixture import draw_pairs
from benchmarks.experiments.toy.task.sets import FRAMES_PER_SECOND, read_set, to_bytes, write_clip, write_sets


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_sets(tmp_path_factory.mktemp("sets"), seed=3, images=12, clips=6)


@pytest.mark.parametrize(("modality", "size"), [("image", 12), ("video", 6)])
def test_pairs_come_back_from_disk_to_within_rounding(written, modality, size):
    known = captions.train_captions(modality)[:size]
    pairs = draw_pairs(modality, known, torch.Generator().manual_seed(3))
    for name, drawn in (("winners", pairs.winners), ("losers", pairs.losers)):
        pixels, read = read_set(written[f"{modality}/{name}"])
        assert read == known
        assert (pixels - drawn).abs().max() <= 1 / 255 + 1e-6


def test_pngs_hold_the_bytes(written):
    folder = written["image/winners"]
    row = json.loads((folder / "metadata.jsonl").read_text().splitlines()[0])
    assert set(row) == {"file_name", "caption"}
    with Image.open(folder / row["file_name"]) as image:
        assert (image.mode, image.size) == ("RGB", (32, 32))


def test_a_seed_writes_the_same_and_another_seed_does_not(written, tmp_path):
    again = write_sets(tmp_path / "again", seed=3, images=12, clips=6)
    other = write_sets(tmp_path / "other", seed=4, images=12, clips=6)
    for name in ("image/winners", "image/continued", "video/losers", "video/continued"):
        assert torch.equal(read_set(again[name])[0], read_set(written[name])[0])
        assert not torch.equal(read_set(other[name])[0], read_set(written[name])[0])


def test_sets_use_training_captions_and_prompts_the_others(written):
    for modality in ("image", "video"):
        unseen = written[f"{modality}/prompts"].read_text().splitlines()
        assert unseen == captions.held_out(modality)
        for name in ("winners", "losers", "continued"):
            assert set(read_set(written[f"{modality}/{name}"])[1]).isdisjoint(unseen)


def test_a_full_folder_is_left_alone(written):
    with pytest.raises(FileExistsError, match="winners is not empty"):
        write_sets(written["image/winners"].parents[1], images=2, clips=2)


@pytest.mark.parametrize("size", [(16, 16), (16, 32), (64, 64)])
def test_clips_come_back_byte_for_byte(tmp_path, size):
    frames = np.random.default_rng(0).integers(0, 256, (8, *size, 3), dtype=np.uint8)
    write_clip(tmp_path / "clip.mp4", frames)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].average_rate == FRAMES_PER_SECOND
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    np.testing.assert_array_equal(read, frames)


def test_decord_reads_the_same_bytes_where_it_can(tmp_path):
    decord = pytest.importorskip("decord")
    # decord 0.6.0 mistakes the padding of narrow rows for channels: 16 pixels come back with 6 channels, 32 are sound
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    write_clip(tmp_path / "clip.mp4", frames)
    read = decord.VideoReader(str(tmp_path / "clip.mp4")).get_batch(range(8)).asnumpy()
    np.testing.assert_array_equal(read, frames)


def test_bytes_are_rounded_and_clamped():
    pixels = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 5)
    assert to_bytes(pixels)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
