"""Chunks of reference samples among processes of unequal speed, one of which may die over its own."""

import json
import math
from dataclasses import replace

import pytest

from seppo_core.config.loader import resolved_yaml
from seppo_core.run.history import read_events, read_metrics
from seppo_image import commands
from tests.training import uneven
from tests.training.together import start, torchrun

CHUNKS = 24


def config_of(workshop, run):
    config = workshop.config(run)
    loop = replace(config.loop, iterations=1, updates_per_iteration=6)
    return replace(config, loop=loop, reference_samples=replace(config.reference_samples, batch_size=1))


def told(folder) -> list[dict]:
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture
def path(workshop, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config_of(workshop, tmp_path / "run")))
    return path


def test_none_waits_for_another_for_more_than_its_last_chunk(path, tmp_path):
    launch = start(2, "tests.training.uneven", tmp_path, path, log=tmp_path / "log")
    assert launch.finish() == 0, launch.output[-3000:]
    quick, slow = told(tmp_path)
    assert sorted(quick["taken"] + slow["taken"]) == list(range(CHUNKS)), "each is generated once"
    # a share of half each would keep the quick one waiting for most of twelve seconds
    assert 1 <= len(slow["taken"]) < CHUNKS // 3
    assert slow["until"] - quick["until"] < 3 * uneven.SECONDS


@pytest.mark.slow
def test_a_chunk_that_died_with_its_process_is_generated_by_the_next_launch(workshop, path, tmp_path):
    done = torchrun(2, "tests.training.uneven", tmp_path, path, "dies")
    assert done.returncode != 0, done.stdout[-3000:]
    there = {int(file.stem.rpartition("-")[2]) for file in (tmp_path / "run" / "buffer").rglob("samples-*")}
    # torchrun ended the other as well
    assert len(there) < CHUNKS
    assert read_events(tmp_path / "run")[-1]["event"] == "stopped", "a lost process is no failure of the run"
    again = start(2, "seppo_image", "train", path, log=tmp_path / "log")
    assert again.finish() == 0, again.output[-3000:]
    drawn = [event["count"] for event in read_events(tmp_path / "run") if event["event"] == "samples"]
    assert drawn == [CHUNKS - len(there)]
    commands.train(config_of(workshop, tmp_path / "one"))
    several, one = read_metrics(tmp_path / "run"), read_metrics(tmp_path / "one")
    assert len(several) == 6
    assert several[0]["sample_variance"] == one[0]["sample_variance"], "the samples are the same, whoever drew them"
    assert math.isclose(several[0]["winner_error"], one[0]["winner_error"], rel_tol=1e-5)
