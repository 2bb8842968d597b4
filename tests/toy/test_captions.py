"""The captions and their split."""

import subprocess
import sys
from itertools import combinations

import pytest

from seppo_core.toy import captions

MODALITIES = ("image", "video")


@pytest.mark.parametrize(("modality", "train", "held"), [("image", 192, 48), ("video", 96, 48)])
def test_the_split_has_the_stated_sizes_and_no_overlap(modality, train, held):
    known, unseen = captions.train_captions(modality), captions.held_out(modality)
    assert (len(set(known)), len(set(unseen))) == (train, held)
    assert set(known).isdisjoint(unseen)
    assert set(known) | set(unseen) == set(captions.all_captions(modality))


@pytest.mark.parametrize("modality", MODALITIES)
def test_captions_read_back(modality):
    for caption in captions.all_captions(modality):
        assert captions.text(modality, captions.indices(modality, caption)) == caption


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_pair_of_values_occurs_in_training(modality):
    sizes = captions.sizes(modality)
    chosen = [captions.indices(modality, caption) for caption in captions.train_captions(modality)]
    for a, b in combinations(range(len(sizes)), 2):
        assert len({(row[a], row[b]) for row in chosen}) == sizes[a] * sizes[b]


@pytest.mark.parametrize("modality", MODALITIES)
def test_held_out_captions_use_every_value(modality):
    chosen = [captions.indices(modality, caption) for caption in captions.held_out(modality)]
    for attribute, size in enumerate(captions.sizes(modality)):
        assert {row[attribute] for row in chosen} == set(range(size))


def test_a_foreign_caption_is_named():
    with pytest.raises(ValueError, match="'a purple cat' is no image caption"):
        captions.indices("image", "a purple cat")


@pytest.mark.slow
def test_imports_stay_light():
    code = (
        "import sys, seppo_core.toy.captions; assert 'torch' not in sys.modules; "
        "import seppo_core.toy.score, benchmarks.experiments.toy.task.mixture, "
        "benchmarks.experiments.toy.task.sets; "
        "assert 'diffusers' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
