"""Several processes equal one: the same losses, the same weights to rounding, over a run. Update by update, rounding
grows; what one global batch gives is compared in `test_process_errors.py`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seppo_core.config.loader import resolved_yaml
from seppo_core.distributed.ranks import FOREIGN, Ranks, make_accelerator
from seppo_core.methods.reference import FrozenCopy
from seppo_core.run.checkpoint import CheckpointFolder, load_policy
from seppo_core.run.history import read_metrics
from seppo_image import commands
from tests.judges import assert_scored_alike, judged
from tests.training.test_resume import assert_same_run
from tests.training.together import start, torchrun

# six AdamW updates of at most 1e-3 each: as far as training can move a weight
MOVED = 6e-3


def trained(config: Path, processes: int, program: str = "seppo_image", *options: str) -> tuple[int, str]:
    """Exit status and output of `train` in several processes."""
    run = start(processes, program, "train", config, *options, log=log_beside(config))
    return run.finish(), run.output


def log_beside(config: Path) -> Path:
    """A new file for the output of what is started with `config`."""
    return config.with_suffix(f".{len(list(config.parent.glob('*.log')))}.log")


def final(run: Path) -> dict[str, torch.Tensor]:
    return load_policy(CheckpointFolder(run / "checkpoints").latest())


@pytest.mark.parametrize(
    ("mode", "method", "processes"),
    [
        ("full", "seppo", 2),
        pytest.param("lora", "seppo", 2, marks=pytest.mark.slow),
        # errors and gradients on four are compared in test_process_errors; here are whole runs
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("full", "sft", 2), ("full", "seppo", 4), ("lora", "seppo", 4)]
        ),
    ],
)
def test_several_processes_equal_one_with_accumulation(workshop, tmp_path, mode, method, processes):
    def config_of(run):
        config = workshop.config(run, mode, method)
        loop = replace(config.loop, validate_every=3, keep_checkpoints=1, keep_best=True)
        preview = judged(every=2, per_prompt=1, steps=2)
        return replace(config, loop=loop, data=replace(config.data, validation=0.3), preview=preview)

    config = config_of(tmp_path / "several")
    path = tmp_path / "config.yaml"
    # one micro-batch of 2 on each of 2 processes, or 1 on each of 4; the one process accumulates 2 of 2
    path.write_text(resolved_yaml(config).replace("micro_batch_size: 2", f"micro_batch_size: {4 // processes}"))
    # the real launcher, as the README has it
    done = torchrun(processes, "seppo_image", "train", path)
    assert done.returncode == 0, done.stdout[-3000:]
    commands.train(config_of(tmp_path / "one"))
    several, one = read_metrics(tmp_path / "several"), read_metrics(tmp_path / "one")
    assert [line["update"] for line in several] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(several, one, strict=True):
        for name in ("loss", "winner_error", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-3), (a["update"], name)
        assert a.get("reference") == b.get("reference")
        assert a.get("held_out_error", 0) == pytest.approx(b.get("held_out_error", 0), rel=1e-3)
        assert ("held_out_error" in a) is (a["update"] in (3, 6))
    assert several[2]["held_out_start"] == pytest.approx(one[2]["held_out_start"], rel=1e-5)
    # the first update, before AdamW's division has enlarged any rounding
    assert several[0]["winner_error"] == pytest.approx(one[0]["winner_error"], rel=1e-5)
    assert several[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-5)
    assert_scored_alike(tmp_path / "several", tmp_path / "one")
    a, b = final(tmp_path / "several"), final(tmp_path / "one")
    for name in a:
        assert (a[name] - b[name]).abs().max() <= 0.05 * MOVED, name


def test_a_batch_that_cannot_be_dealt_out_is_refused(workshop, tmp_path):
    path = tmp_path / "config.yaml"
    text = resolved_yaml(workshop.config(tmp_path / "run"))
    path.write_text(text.replace("  batch_size: 4\n  micro_batch_size: 2", "  batch_size: 2\n  micro_batch_size: 2"))
    status, told = trained(path, 2)
    assert status != 0
    assert "loop.batch_size=2 is not a multiple of 2 processes x loop.micro_batch_size=2; use e.g. 4" in told


def test_what_the_first_process_refuses_ends_all(workshop, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("not a run")
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(workshop.config(tmp_path / "run")))
    # within the launcher's limit, not after the twelve hours that one process waits for another
    status, told = trained(path, 2)
    assert status != 0
    assert "is not empty and holds no run" in told
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("variable", FOREIGN)
def test_what_another_library_shares_is_refused_before_it_is_looked_for(monkeypatch, variable):
    monkeypatch.setenv(variable, "True")
    with pytest.raises(ValueError, match=rf"{variable}=true\), which is not tested here; .* set loop\.sharded=true"):
        make_accelerator()


def test_a_world_of_another_size_than_was_launched_is_refused(monkeypatch):
    accelerator = make_accelerator()
    assert Ranks.of(accelerator) == Ranks(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"the launcher started 4 processes, accelerate sees 1; .*ACCELERATE_USE_CPU"):
        Ranks.of(accelerator)


def test_a_reference_that_waits_on_the_cpu_changes_nothing(workshop, whole_run, tmp_path, monkeypatch):
    used = []
    active = FrozenCopy.active

    def watched(self):
        used.append(self._waiting is not None)
        return active(self)

    monkeypatch.setattr(FrozenCopy, "active", watched)
    config = workshop.config(tmp_path / "run")
    commands.train(replace(config, loop=replace(config.loop, offload_reference=True)))
    assert used and all(used)
    assert_same_run(tmp_path / "run", whole_run)
