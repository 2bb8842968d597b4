"""A key that does not exist is answered with where it belongs, or with the one that it most likely stands for."""

import pytest

from seppo_core.config.aliases import FOREIGN, NO_KEYS
from seppo_core.config.variants import every_key
from seppo_image.config import ImageConfig
from tests.config.test_config import LEAST, refusal


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("learning_rate: 3", "learning_rate is not a key; did you mean optimizer.lr?"),
        ("loop: {learning-rate: 3}", "loop.learning-rate is not a key; did you mean optimizer.lr?"),
        # one of its name, and one that looks like it
        ("loop: {every: 5}", "loop.every is not a key; did you mean preview.every or loop.keep_every?"),
        ("preview: {keep_evry: 3}", "preview.keep_evry is not a key; did you mean loop.keep_every?"),
        (
            "loop: {old_decay: 1}",
            "loop.old_decay is not a key; did you mean method.old_decay (a key of method.name=nft)",
        ),
        (
            "loop: {optimizer: {lr: 3}}",
            "loop.optimizer is not a key; optimizer is a section of its own; write it at the left margin, not under ",
        ),
        ("device: cuda", "device is not a key; the device is chosen by itself, a GPU before the CPU; CUDA_VISIBLE_DEV"),
        ("training: {gpu_ids: 0}", "training.gpu_ids is not a key; the device is chosen by itself"),
        ("optimiser: {lr: 3}", "optimiser is not a key; did you mean optimizer?"),
        (
            "training: {lr: 3, extra: {rank: 2}}",
            "training.lr is not a key; did you mean optimizer.lr?; "
            "training.extra.rank is not a key; did you mean tune.rank?",
        ),
        ("training: {zzz: 3}", "training.zzz is not a key; the file has run, seed, draws, model, "),
        ("training: {}", "training is not a key; the file has run, "),
    ],
)
def test_where_a_key_belongs(tmp_path, lines, expected):
    assert refusal(tmp_path, LEAST + lines).startswith(expected)


def test_what_other_trainers_call_a_setting_leads_to_keys_that_exist():
    ours = {key for named in FOREIGN.values() for key in named.split(" and ")}
    assert ours <= set(every_key(ImageConfig)) and not FOREIGN.keys() & set(every_key(ImageConfig))
    assert not NO_KEYS.keys() & {key.rpartition(".")[2] for key in every_key(ImageConfig)}
