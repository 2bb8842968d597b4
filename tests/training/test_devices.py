"""What a card does otherwise than a CPU: NCCL, shards, kernels that add in any order, memory that is moved.

The bodies are the CPU's too, so that a card (`pytest -m gpu`) brings nothing new but itself.
"""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seppo_core.config.loader import resolved_yaml
from seppo_core.distributed import ranks
from seppo_core.run.history import read_metrics
from tests.training.test_processes import MOVED, final
from tests.training.test_resume import assert_same_run
from tests.training.together import start

DEVICES = [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


@pytest.fixture(params=DEVICES)
def train(request, workshop, tmp_path):
    """Trains the run of a name in a process of its own on the device; returns its folder, output and status."""

    def run(name: str, *words: str, mode: str = "full", **loop) -> tuple[Path, str, int]:
        config = workshop.config(tmp_path / name, mode)
        path = tmp_path / f"{name}.yaml"
        path.write_text(resolved_yaml(replace(config, loop=replace(config.loop, deterministic=True, **loop))))
        log = tmp_path / f"{name}-{len(list(tmp_path.glob('*.log')))}.log"
        launch = start(1, "tests.training.one_rank", path, *words, log=log, device=request.param)
        status = launch.finish()
        assert f"backend {BACKENDS[request.param]} on {request.param}" in launch.output, launch.output[-3000:]
        return tmp_path / name, launch.output, status

    return run


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_killed_run_goes_on_bit_for_bit(train, mode):
    undisturbed, told, status = train("undisturbed", mode=mode)
    assert status == 0, told[-3000:]
    _, _, status = train("killed", "dies", "4", mode=mode)
    assert status == -signal.SIGKILL
    killed, told, status = train("killed", mode=mode)
    assert status == 0, told[-3000:]
    assert_same_run(killed, undisturbed)


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_shards_of_one_process_learn_what_it_learns(train, mode):
    (whole, told, status), (shards, more, other) = train("whole", mode=mode), train("shards", "shards", mode=mode)
    assert (status, other) == (0, 0), (told + more)[-3000:]
    for a, b in zip(read_metrics(whole), read_metrics(shards), strict=True):
        for name in ("loss", "winner_error", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-3), (a["update"], name)
    a, b = final(whole), final(shards)
    assert a.keys() == b.keys()
    assert all((a[name] - b[name]).abs().max() <= 0.05 * MOVED for name in a)


def test_activations_that_wait_elsewhere_change_nothing(train):
    here, told, status = train("here", mode="lora", gradient_checkpointing=True)
    there, more, other = train("there", mode="lora", gradient_checkpointing=True, offload_activations=True)
    assert (status, other) == (0, 0), (told + more)[-3000:]
    assert_same_run(there, here)


def test_determinism_is_asked_for_where_there_is_a_choice(monkeypatch):
    asked = {}
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: asked.update(algorithms=on))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    ranks.make_accelerator(deterministic=True)
    on_cuda = torch.cuda.is_available()
    assert asked == ({"algorithms": True} if on_cuda else {})
    ranks.be_deterministic()
    assert asked == {"algorithms": True} and not torch.backends.cudnn.benchmark
    assert ranks.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
