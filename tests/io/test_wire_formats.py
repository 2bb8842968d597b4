"""Strings that runs and caches on disk depend on: if a test here fails, older runs and caches cannot go on."""

import ast
import json
from collections import Counter
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import nn

import seppo_core
from seppo_core.cache.prepare import prepare
from seppo_core.io import purposes
from seppo_core.io.rng import keyed_generator, keyed_normal, keyed_permutation, keyed_stream
from seppo_core.models.tuning import tune_lora
from tests.cache.winners import ListSource, PixelAdapter

ROOT = Path(seppo_core.__file__).parent.parent
PURPOSES = {
    "ORDER": ("order", 5522212436552859130),
    "DRAWS": ("draws", 9063534396729568348),
    "MEETINGS": ("meetings", 1095355212733943821),
    "POSTERIOR": ("posterior", 1686789948394953566),
    "LOSER_POSTERIOR": ("loser posterior", 4210654870167989477),
    "ANCHOR": ("anchor", 6179847707211168083),
    "REFERENCE": ("reference", 7287823727291109739),
    "SAMPLE": ("sample", 7542206509554382642),
    "CANDIDATE": ("candidate", 5038604121208106884),
    "SAMPLER": ("sampler", 4123633419484892221),
    "REENCODE": ("reencode", 850899657602807114),
    "HELD_OUT": ("held out", 5203504422660093586),
    "VALIDATION": ("validation", 1645922564657537936),
    "VALIDATION_TIMES": ("validation times", 3353951467516276962),
    "PREVIEW": ("preview", 7771818523677766357),
    "DRAW": ("draw", 7581898702519582281),
    "CAPTION": ("caption", 7022597560092314053),
    "LORA": ("lora", 5383434957810030564),
    "WINNER": ("winner", 2881808371399635852),
    "WINDOW": ("window", 2184603682901659197),
}
"""By name of the constant: its value, and the seed of the generator of the key (5, value, 3)."""


def test_purposes_and_their_seeds_are_pinned():
    assert {name: value for name, value in vars(purposes).items() if name.isupper()} == {
        name: value for name, (value, _) in PURPOSES.items()
    }
    for value, seed in PURPOSES.values():
        digest = blake2b(f"(5, {value!r}, 3)".encode(), digest_size=8).digest()
        assert keyed_generator(5, value, 3).initial_seed() == int.from_bytes(digest, "little") // 2 == seed


def test_first_numbers_are_pinned():
    u = torch.rand(3, generator=keyed_generator(5, purposes.DRAWS, 3), dtype=torch.float64)
    assert u.tolist() == [0.8981920125415477, 0.14229236469051665, 0.5621669713080855]
    assert keyed_normal((2,), 5, purposes.SAMPLE, 3).tolist() == pytest.approx([0.48377892, 1.46753395], rel=1e-6)
    assert keyed_permutation(8, 5, purposes.ORDER, 3).tolist() == [6, 0, 2, 1, 4, 3, 7, 5]


def test_first_numbers_of_the_second_version_are_pinned():
    stream = keyed_stream(2, 5, purposes.DRAWS, 3)
    assert stream.uniform(3).tolist() == [0.8836952765492022, 0.5337360412958011, 0.03028950420081289]
    normal = [-0.08603771, 0.16050249, 1.15741575, -0.0900322]
    assert stream.normal((2, 2)).flatten().tolist() == pytest.approx(normal, rel=1e-6)
    assert keyed_stream(2, 5, purposes.ORDER, 3).permutation(8).tolist() == [5, 0, 1, 2, 6, 7, 4, 3]
    assert [keyed_stream(2, 5, purposes.REFERENCE, i).integer(7) for i in range(6)] == [4, 1, 5, 3, 6, 3]


def test_the_first_version_is_torch_s_own():
    mine, own = keyed_stream(1, 5, purposes.DRAWS, 3), keyed_generator(5, purposes.DRAWS, 3)
    assert torch.equal(mine.uniform(3), torch.rand(3, generator=own, dtype=torch.float64))
    assert torch.equal(mine.normal((2, 3)), torch.randn(2, 3, generator=own))
    assert torch.equal(keyed_stream(1, 5, "a").permutation(9), keyed_permutation(9, 5, "a"))


def test_keys_that_the_first_version_confuses_are_told_apart_by_the_second():
    # two items of a run with batches of 2048: one pair is likely within 65 000 keys
    keys = [(0, purposes.DRAWS, *divmod(number, 2048)) for number in (30878, 96026)]
    first, second = ([keyed_stream(version, *key).normal((50,)) for key in keys] for version in (1, 2))
    assert torch.equal(*first)
    assert not (second[0] == second[1]).any()


def test_the_second_version_s_numbers_have_their_distributions():
    streams = [keyed_stream(2, 7, "moments", number) for number in range(400)]
    normal = torch.cat([stream.normal((500,)) for stream in streams]).double().numpy()
    assert kstest(normal, "norm").pvalue > 1e-3
    # numbers at one place of neighbouring keys are no more alike than any
    assert abs(np.corrcoef(normal.reshape(400, 500)[:-1].ravel(), normal.reshape(400, 500)[1:].ravel())[0, 1]) < 0.01
    assert kstest(torch.cat([stream.uniform(5) for stream in streams]).numpy(), "uniform").pvalue > 1e-3
    orders = Counter(tuple(stream.permutation(3).tolist()) for stream in streams for _ in range(5))
    assert len(orders) == 6 and chisquare(list(orders.values())).pvalue > 1e-3


@pytest.mark.parametrize("package", ["seppo_core", "seppo_image", "seppo_video"])
def test_keyed_draws_take_their_purpose_from_the_constants(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith("keyed_"):
                words = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                assert not words, f"{path.relative_to(ROOT)}:{node.lineno} {words}: use seppo_core.io.purposes"


def test_settings_of_a_cache_and_their_hash_are_pinned(tmp_path):
    source = ListSource(["a red box", "a dog"])
    manifest = prepare(PixelAdapter(), source, tmp_path, model="tiny", shard_size=3, flip=True, progress=False)
    settings = {
        "version": 2,
        "kind": "image",
        "form": "winners",
        "model": "tiny",
        "source": source.fingerprint(),
        "latent_shape": [12, 4, 4],
        "dtype": "float32",
        "flip": True,
        "tiled": False,
        "shard_size": 3,
    }
    assert manifest.settings == settings
    assert manifest.fingerprint == sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def test_the_name_of_the_lora_is_pinned():
    denoiser = nn.Sequential(nn.Linear(2, 2, bias=False))
    tune_lora(denoiser, ["0"], rank=1)
    assert set(denoiser.state_dict()) == {"0.base_layer.weight", "0.lora_A.policy.weight", "0.lora_B.policy.weight"}
