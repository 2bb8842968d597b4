"""What is said of settings that a CPU computes slowly."""

import os

import pytest

from seppo_core.cli.recipes import shipped
from seppo_core.config.cpu import FLOAT32, one_thread_if_tiny, slow_on_cpu, tell_if_slow
from seppo_core.config.loader import load_config
from seppo_image.config import ImageConfig
from tests.config.test_config import LEAST


@pytest.mark.parametrize(
    ("lines", "slow"),
    [
        ({"model.dtype": "float32"}, []),
        ({"model.dtype": "bfloat16"}, ["model.dtype"]),
        ({"model.dtype": "float32", "loop.mixed_precision": "bf16"}, ["loop.mixed_precision"]),
        ({"model.dtype": "float16", "loop.mixed_precision": "fp16"}, ["model.dtype", "loop.mixed_precision"]),
    ],
)
def test_what_is_slow_is_named_with_its_cure(tmp_path, capsys, lines, slow):
    path = tmp_path / "own.yaml"
    path.write_text(LEAST)
    config = load_config(path, ImageConfig, lines)
    tell_if_slow(config, "cuda")
    assert capsys.readouterr().err == ""
    tell_if_slow(config, "cpu")
    told = capsys.readouterr().err
    assert told.count("\n") == bool(slow)
    assert [key for key in FLOAT32 if key in told] == slow
    # with the keys as it says, nothing is left to say
    assert slow_on_cpu(load_config(path, ImageConfig, lines | {key: FLOAT32[key] for key in slow})) is None


@pytest.mark.parametrize(("given", "limit", "threads"), [(None, 10**9, "1"), (None, 100, None), ("3", 10**9, "3")])
def test_a_tiny_base_gets_one_thread_unless_the_user_says_how_many(monkeypatch, given, limit, threads):
    # set first, so that it is put back as it was
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("seppo_core.config.cpu.TINY", limit)
    one_thread_if_tiny(str(shipped("benchmarks/experiments/toy/task/bases/image")))
    assert os.environ.get("OMP_NUM_THREADS") == threads
