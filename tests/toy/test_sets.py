"""The toy sets as files."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.experiments.toy.demo_data import write_start
from benchmarks.experiments.toy.task.mixture import draw_pairs
from benchmarks.experiments.toy.task.sets import FRAMES_PER_SECOND, read_set, to_bytes, write_clip, write_set
from seppo_core.toy import captions

SIZES = {"image": 12, "video": 6}


def drawn(modality):
    known = captions.train_captions(modality)[: SIZES[modality]]
    return draw_pairs(modality, known, torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("sets")
    return {
        modality: write_set(out / modality, modality, drawn(modality).winners, drawn(modality).captions)
        for modality in SIZES
    }


@pytest.mark.parametrize("modality", SIZES)
def test_samples_come_back_from_disk_to_within_rounding(written, modality):
    pixels, read = read_set(written[modality])
    assert read == captions.train_captions(modality)[: SIZES[modality]]
    assert (pixels - drawn(modality).winners).abs().max() <= 1 / 255 + 1e-6


def test_pngs_hold_the_bytes(written):
    folder = written["image"]
    row = json.loads((folder / "metadata.jsonl").read_text().splitlines()[0])
    assert set(row) == {"file_name", "caption"}
    with Image.open(folder / row["file_name"]) as image:
        assert (image.mode, image.size) == ("RGB", (32, 32))


def test_a_full_folder_is_left_alone(written):
    with pytest.raises(FileExistsError, match="image is not empty"):
        write_set(written["image"], "image", drawn("image").winners, drawn("image").captions)


@pytest.mark.parametrize("modality", SIZES)
def test_a_demo_starts_from_training_captions_and_is_judged_on_the_others(tmp_path, modality):
    """Equal seeds give equal draws, and no caption of the draws or of the ranking is one that is judged."""
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        write_start(tmp_path / name, modality, seed, count=6, training=4)
    first, again, other = (read_set(tmp_path / name / "continued") for name in ("first", "again", "other"))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    asked, judged = ((tmp_path / "first" / f"{name}.txt").read_text().splitlines() for name in ("training", "held-out"))
    assert judged == captions.held_out(modality)
    assert len(set(asked)) == 4 and {*asked, *first[1]}.isdisjoint(judged)


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
