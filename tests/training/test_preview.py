"""Grids as they are written and read again."""

import pytest
import torch

from seppo_core.training.preview import beside, load_frames, save_frames


@pytest.mark.parametrize("count", [1, 3])
def test_frames_come_back_as_they_were_saved(tmp_path, count):
    frames = torch.randint(0, 256, (count, 6, 10, 3), generator=torch.Generator().manual_seed(0)).byte()
    assert torch.equal(load_frames(save_frames(frames, tmp_path / "update-000000")), frames)


def test_grids_side_by_side():
    left, right = torch.zeros(2, 4, 5, 3).byte(), torch.full((2, 4, 5, 3), 9).byte()
    both = beside(left, right, gap=2)
    assert both.shape == (2, 4, 12, 3)
    assert torch.equal(both[:, :, :5], left) and torch.equal(both[:, :, 7:], right)
    assert (both[:, :, 5:7] == 255).all()
    # a grid of other prompts, left by an earlier config, is not put beside
    assert beside(left[:, :2], right) is right
