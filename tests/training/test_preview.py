"""Grids as they are written and read again."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from seppo_core.io import purposes
from seppo_core.io.ledger import Ledger
from seppo_core.io.rng import keyed_normal
from seppo_core.models.pixels import to_frames
from seppo_core.training import preview as drawing
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


@pytest.mark.parametrize("batch_size", [None, 1, 4, 64])
def test_every_sample_is_of_its_own_prompt_and_noise_in_whatever_batch(tmp_path, monkeypatch, batch_size):
    sizes = []

    def steps(adapter, denoiser, condition, *, noise, generators, **_):
        assert len(condition["text"]) == len(noise) == len(generators)
        sizes.append(len(noise))
        yield noise
        yield noise / 4 + condition["text"][:, :, None, None]

    monkeypatch.setattr(drawing, "sample_steps", steps)
    adapter = SimpleNamespace(device="cpu", decode=lambda latents: latents)
    prompts, shape = torch.tensor([[-0.5], [0.0], [0.6]]), (3, 2, 5)
    preview = Preview(
        adapter, tmp_path, {"text": prompts.expand(3, 3)}, {}, shape, every=1, steps=2, guidance_scale=1, columns=2,
        scored=5, seed=7, batch_size=batch_size,
    )  # fmt: skip
    *waits, rendered = preview.render(None, 0)
    alone = [
        [to_frames((keyed_normal(shape, 7, purposes.PREVIEW, row, c) / 4 + prompts[row])[None])[0] for c in range(5)]
        for row in range(3)
    ]
    for row in range(3):
        assert torch.equal(rendered.samples[row], torch.stack(alone[row]))
    grid = torch.cat([torch.cat(row[:2], dim=2) for row in alone], dim=1)
    assert torch.equal(load_frames(rendered.path), grid)
    expected = {None: [2, 2, 1] * 3, 1: [1] * 15, 4: [4, 2, 4, 4, 1], 64: [6, 9]}[batch_size]
    assert sizes == expected and len(waits) == 2 * len(sizes)
