"""Grids as they are written and read again."""

import pytest
import torch
from PIL import Image

from seppo_core.io.ledger import Ledger
from seppo_core.training.preview import Preview, beside, load_frames, save_frames


@pytest.mark.parametrize("count", [1, 3])
def test_frames_come_back_as_they_were_saved(tmp_path, count):
    frames = torch.randint(0, 256, (count, 6, 10, 3), generator=torch.Generator().manual_seed(0)).byte()
    assert torch.equal(load_frames(save_frames(frames, tmp_path / "update-000000")), frames)


def test_clips_play_at_the_rate_of_the_model(tmp_path):
    path = save_frames(torch.randint(0, 256, (3, 6, 10, 3)).byte(), tmp_path / "clip", 16)
    with Image.open(path) as clip:
        clip.load()
        assert clip.info["duration"] == round(1000 / 16)


def test_grids_side_by_side():
    left, right = torch.zeros(2, 4, 5, 3).byte(), torch.full((2, 4, 5, 3), 9).byte()
    both = beside(left, right, gap=2)
    assert both.shape == (2, 4, 12, 3)
    assert torch.equal(both[:, :, :5], left) and torch.equal(both[:, :, 7:], right)
    assert (both[:, :, 5:7] == 255).all()
    # a grid of other prompts, left by an earlier config, is not put beside
    assert beside(left[:, :2], right) is right


def test_a_damaged_picture_of_the_start_is_drawn_anew_or_left_out(tmp_path, capsys):
    ledger = Ledger(tmp_path)
    preview = Preview(None, tmp_path / "previews", {}, {}, (1,), every=1, steps=1, guidance_scale=1, ledger=ledger)
    frames = torch.randint(0, 256, (3, 6, 10, 3)).byte()
    path = tmp_path / "previews" / "update-000000.webp"
    with ledger.writing(path):
        save_frames(frames, path.with_suffix(""))
    assert preview.drawn(0) and not preview.drawn(1)
    save_frames(255 - frames, path.with_suffix(""))
    assert not preview.drawn(0), "another picture in its place"
    path.write_bytes(path.read_bytes()[:40])
    ledger.forget(path)
    assert not preview.drawn(0), "of an earlier version and cut off"
    assert capsys.readouterr().out.count("drawn anew") == 2
