"""Per-sample errors and gradients of one global batch: on several processes as on one, to 1e-5."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from seppo_core.config.loader import resolved_yaml
from seppo_image import commands
from tests.training.recorded import record
from tests.training.together import start

MODES = ("full", "lora")
FIELDS = ("policy_winner", "policy_sample", "reference_winner", "reference_sample")


def config_of(workshop, run, mode):
    """One winner a micro-batch: one process accumulates four of them, two do two each, four do one each."""
    config = workshop.config(run, mode)
    return replace(config, loop=replace(config.loop, micro_batch_size=1))


@pytest.fixture(scope="module")
def alone(workshop, tmp_path_factory):
    """A run of each mode that stands after update 4, where policy and reference have parted; and what one process
    records of update 5."""
    found = {}
    for mode in MODES:
        folder = tmp_path_factory.mktemp(mode)
        commands.train(config_of(workshop, folder / "run", mode))
        shutil.rmtree(folder / "run" / "checkpoints" / "update-000006")
        shutil.copytree(folder / "run", folder / "one")
        record(config_of(workshop, folder / "one", mode), folder / "one.safetensors")
        found[mode] = folder / "run", load_file(folder / "one.safetensors")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_errors_and_gradients_equal_those_of_one_process(workshop, alone, tmp_path, processes):
    configs = [tmp_path / f"{mode}.yaml" for mode in MODES]
    for mode, path in zip(MODES, configs, strict=True):
        shutil.copytree(alone[mode][0], tmp_path / mode)
        path.write_text(resolved_yaml(config_of(workshop, tmp_path / mode, mode)))
    launch = start(processes, "tests.training.recorded", tmp_path, *configs, log=tmp_path / "log")
    assert launch.finish() == 0, launch.output[-3000:]
    for mode in MODES:
        one = alone[mode][1]
        several = [load_file(tmp_path / f"{mode}-{rank}.safetensors") for rank in range(processes)]
        for name in FIELDS:
            errors = torch.cat([found[name] for found in several])
            assert errors.shape == one[name].shape == (4,)
            torch.testing.assert_close(errors, one[name], rtol=1e-5, atol=0, msg=f"{mode} {name}")
        assert torch.equal(torch.cat([found["sign"] for found in several]), one["sign"])
        assert not torch.equal(one["policy_winner"], one["reference_winner"]), "nothing is compared of equal weights"
        gradients = [name for name in one if name.startswith("gradient")]
        assert len(gradients) > 10
        for name in gradients:
            assert one[name].norm() > 0
            for found in several:
                assert (found[name] - one[name]).norm() <= 1e-5 * one[name].norm(), f"{mode} {name}"
