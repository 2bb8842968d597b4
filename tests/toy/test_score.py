"""The exact score, against closed forms and a slow independent search."""

import math

import numpy as np
import pytest
import torch

from benchmarks.experiments.toy.task.mixture import draw_images, draw_videos
from seppo_core.toy import captions, render
from seppo_core.toy.score import image_parts, score_images, score_videos, video_parts


def clean(modality, wanted):
    attributes = render.caption_indices(modality, wanted)
    return render.clean_images(attributes) if modality == "image" else render.clean_clips(attributes)


def test_every_clean_drawing_scores_one():
    for modality, score in (("image", score_images), ("video", score_videos)):
        wanted = captions.all_captions(modality)
        torch.testing.assert_close(score(clean(modality, wanted), wanted), torch.ones(len(wanted)))


def test_an_even_error_costs_its_exponential():
    wanted = captions.held_out("image")[:8]
    parts = image_parts(clean("image", wanted) + 0.1, wanted)
    assert parts.attributes.tolist() == [1.0] * 8
    torch.testing.assert_close(parts.appearance, torch.full((8,), math.exp(-0.01 / 0.08)))
    torch.testing.assert_close(parts.score, 0.5 + 0.5 * parts.appearance)


def test_each_wrong_attribute_of_a_picture_costs_an_eighth():
    shown = "a large red circle on black"
    wanted = [
        "a large blue circle on black",
        "a large blue ring on black",
        "a large blue ring on white",
        "a small blue ring on white",
    ]
    scores = score_images(clean("image", [shown] * 4), wanted)
    torch.testing.assert_close(scores, torch.tensor([7 / 8, 6 / 8, 5 / 8, 4 / 8]))


def test_the_nearest_drawing_agrees_with_a_slow_search_in_float64():
    wanted = captions.train_captions("image")[::16]
    pixels = draw_images(wanted, torch.Generator().manual_seed(3))
    known = captions.all_captions("image")
    drawings = clean("image", known).double().numpy()
    for picture, caption, score in zip(pixels.double().numpy(), wanted, score_images(pixels, wanted), strict=True):
        errors = np.mean((drawings - picture) ** 2, axis=(1, 2, 3))
        shown = captions.indices("image", known[errors.argmin()])
        right = np.mean([a == b for a, b in zip(shown, captions.indices("image", caption), strict=True)])
        assert score.item() == pytest.approx(0.5 * right + 0.5 * math.exp(-errors.min() / 0.08), abs=1e-5)


def moved(velocity):
    """A red circle on black that crosses the middle with the velocity (x, y) in pixels per frame."""
    attributes = render.caption_indices("video", ["a red circle moving right on black"])
    # at 2 pixels a frame every centre is one that is looked at; between two of them rounding would choose
    time = torch.arange(render.FRAMES) - render.FRAMES / 2
    return render.clips(attributes, render.SIZE / 2 + time[None, :, None] * torch.tensor(velocity))


@pytest.mark.parametrize(
    ("velocity", "motion"),
    [((2.0, 0.0), 1.0), ((0.0, 0.0), 0.0), ((-2.0, 0.0), 0.0), ((0.0, 2.0), 0.0), ((1.0, 0.0), 0.5), ((2.8, 0.0), 0.6)],
)
def test_motion_is_one_minus_the_relative_miss_of_the_velocity(velocity, motion):
    parts = video_parts(moved(velocity), ["a red circle moving right on black"])
    # centres are found on every second pixel
    assert parts.motion.item() == pytest.approx(motion, abs=0.1)
    torch.testing.assert_close(parts.score, 0.4 * parts.attributes + 0.3 * parts.appearance + 0.3 * parts.motion)


def test_the_direction_is_judged_by_motion_alone():
    shown, wanted = "a red circle moving left on black", "a red circle moving right on black"
    parts = video_parts(clean("video", [shown]), [wanted])
    assert (parts.attributes.item(), parts.motion.item()) == (1.0, 0.0)
    assert parts.score.item() == pytest.approx(0.7)


def test_a_clip_is_judged_frame_by_frame():
    half = clean("video", ["a red circle moving right on black", "a blue square moving right on white"])
    spliced = torch.cat([half[:1, :, :4], half[1:, :, 4:]], dim=2)
    parts = video_parts(spliced, ["a red circle moving right on black"])
    assert parts.attributes.item() == pytest.approx(0.5)
    assert parts.motion.item() == pytest.approx(1.0)


def test_scores_do_not_depend_on_the_batch():
    wanted = captions.train_captions("video")[:12]
    pixels = draw_videos(wanted, torch.Generator().manual_seed(1))
    order = torch.randperm(12)
    permuted = score_videos(pixels[order], [wanted[i] for i in order])
    torch.testing.assert_close(permuted, score_videos(pixels, wanted)[order])


def test_noise_scores_low_and_within_bounds():
    wanted = captions.held_out("image")
    scores = score_images(torch.rand(len(wanted), 3, 32, 32) * 2 - 1, wanted)
    assert 0 <= scores.min()
    assert scores.mean() < 0.3


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\) cannot be scored; give \(n, 3, 32, 32\)"):
        score_images(torch.zeros(2, 3, 8, 8), captions.held_out("image")[:2])
    with pytest.raises(ValueError, match="2 samples but 3 captions"):
        score_images(torch.zeros(2, 3, 32, 32), captions.held_out("image")[:3])
