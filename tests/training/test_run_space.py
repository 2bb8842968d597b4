"""What a run says it will write against what it wrote, and a disk that is too small for it."""

from dataclasses import replace

import pytest

from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.methods.sft import SftConfig
from seppo_core.models.tuning import trainable_parameters, tune_full
from seppo_core.run import disk_budget as run_space
from seppo_core.run.disk_budget import check_run_space, run_bytes
from seppo_image import commands


def parts_of(workshop, config):
    adapter = commands.load(config)
    tune_full(adapter.denoiser)
    return run_bytes(config, trainable_parameters(adapter.denoiser).values(), 4 * 4 * 8 * 8)


@pytest.mark.parametrize("reference", ["random", "initial"])
def test_what_is_foretold_is_what_is_written(workshop, tmp_path, reference):
    config = replace(workshop.config(tmp_path / "run"), method=SeppoConfig(beta=50, reference=reference))
    foretold = parts_of(workshop, config)
    commands.train(config)
    size = lambda name: sum(p.stat().st_size for p in (tmp_path / "run" / name).rglob("*") if p.is_file())  # noqa: E731
    assert size("pool") == pytest.approx(foretold["snapshots of the pool"], rel=0.05)
    # two are kept, and room is asked for a third
    assert size("checkpoints") * 3 / 2 == pytest.approx(foretold["checkpoints"], rel=0.1)
    assert foretold["reference samples"] == 3 * 4 * 4 * 4 * 8 * 8


def test_a_pool_that_forgets_needs_less(workshop, tmp_path):
    config = workshop.config(tmp_path / "run")
    config = replace(config, loop=replace(config.loop, iterations=20))
    whole = parts_of(workshop, config)
    few = parts_of(workshop, replace(config, method=SeppoConfig(beta=50, pool_window=3)))
    assert few["snapshots of the pool"] * 4 == whole["snapshots of the pool"]  # the newest 3, and 2 for the checkpoints
    sft = parts_of(workshop, replace(config, method=SftConfig()))
    assert sft["snapshots of the pool"] == sft["reference samples"] == 0


def test_a_disk_that_is_too_small_is_refused_before_anything_is_generated(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr(run_space, "free_bytes", lambda _: 1000)
    with pytest.raises(OSError, match=r"GB more and its disk has 0.0 GB free \(.* for snapshots of the pool"):
        commands.train(workshop.config(tmp_path / "run"))
    assert not (tmp_path / "run" / "pool").exists()
    # what a run that goes on has written already needs no room
    (tmp_path / "there" / "pool").mkdir(parents=True)
    (tmp_path / "there" / "pool" / "file").write_bytes(bytes(5000))
    check_run_space(tmp_path / "there", {"checkpoints": 5500})
    # exports lie in the folder too, and make room for nothing
    (tmp_path / "there" / "pool").rename(tmp_path / "there" / "export")
    with pytest.raises(OSError, match="GB free"):
        check_run_space(tmp_path / "there", {"checkpoints": 5500})
