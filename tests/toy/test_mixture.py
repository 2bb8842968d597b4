"""The noisy mixture and the pairs drawn from it."""

import pytest
import torch

from benchmarks.experiments.toy.task.mixture import (
    BAD,
    WRONG,
    _corrupt,
    _faults,
    draw_pairs,
    draw_samples,
    score_samples,
)
from seppo_core.toy import captions
from seppo_core.toy.render import caption_indices


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("modality", ["image", "video"])
def test_each_attribute_is_wrong_one_time_in_five_and_then_evenly(modality):
    wanted = caption_indices(modality, captions.train_captions(modality)[:1]).expand(20_000, -1)
    drawn = _corrupt(modality, wanted, generator())
    # standard deviation of a share over 20000 draws: 0.003
    torch.testing.assert_close((drawn != wanted).float().mean(0), torch.full((4,), WRONG), atol=0.012, rtol=0)
    for attribute, size in enumerate(captions.sizes(modality)):
        shares = torch.bincount(drawn[:, attribute], minlength=size) / 20_000
        others = shares[torch.arange(size) != wanted[0, attribute]]
        torch.testing.assert_close(others, torch.full((size - 1,), WRONG / (size - 1)), atol=0.012, rtol=0)


def test_a_draw_has_at_most_one_fault():
    masks = torch.stack(_faults(20_000, 3, generator()))
    assert masks.sum(0).max() == 1
    torch.testing.assert_close(masks.mean(1), torch.full((3,), BAD / 3), atol=0.012, rtol=0)


@pytest.mark.parametrize("modality", ["image", "video"])
def test_winners_are_the_better_draws_and_leave_room_above_and_below(modality):
    known = captions.train_captions(modality)
    pairs = draw_pairs(modality, known, generator())
    torch.testing.assert_close(score_samples(modality, pairs.winners, known), pairs.winner_scores)
    torch.testing.assert_close(score_samples(modality, pairs.losers, known), pairs.loser_scores)
    assert (pairs.winner_scores >= pairs.loser_scores).all()
    mixture = score_samples(modality, draw_samples(modality, known, generator(1)), known).mean()
    assert pairs.loser_scores.mean() + 0.06 < mixture < pairs.winner_scores.mean() - 0.06
    assert pairs.winner_scores.mean() < 0.95


@pytest.mark.parametrize("modality", ["image", "video"])
def test_a_seed_gives_the_same_draws(modality):
    known = captions.train_captions(modality)[:10]
    first, again, other = (draw_samples(modality, known, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1 + 1e-6
