"""Generating and scoring: what is there is not made again, what stopped goes on, what fails is kept with its reason."""

import os

import numpy as np
import pytest
from PIL import Image

from benchmarks.evaluation.analysis import analyse
from benchmarks.evaluation.generate import generate, missing
from benchmarks.evaluation.lines import LineWriter, read_lines
from benchmarks.evaluation.prompts import Prompt
from benchmarks.evaluation.report.gallery import gallery
from benchmarks.evaluation.results import CHANGED, collect
from benchmarks.evaluation.score import score
from benchmarks.evaluation.shard import Shard
from benchmarks.evaluation.store import SampleStore, sample_seed
from tests.benchmarks.quality.fake import FakeJudge, FakeSampler, open_plan, prompt_set, protocol


def draw(store: SampleStore, sampler: FakeSampler, count: int = 6, **options):
    prompts = prompt_set(count).prompts
    return generate(store, prompts, protocol(), lambda: sampler, {}, batch_size=4, **options)


def pixels(store: SampleStore) -> dict:
    return {key: record.sha256 for key, record in store.records.items()}


def never():
    raise AssertionError("nothing is to be loaded")


def test_a_stopped_run_goes_on_to_the_same_samples(tmp_path):
    whole = SampleStore(tmp_path / "whole")
    assert draw(whole, FakeSampler()).drawn == 12
    with pytest.raises(KeyboardInterrupt):
        draw(SampleStore(tmp_path / "cut"), FakeSampler(stop_after=5))
    # killed in the middle of a line, too
    manifest = tmp_path / "cut" / "manifest.jsonl"
    manifest.write_text(manifest.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    again = FakeSampler()
    outcome = draw(SampleStore(tmp_path / "cut"), again)
    assert outcome.there == 7 and len(again.drawn) == outcome.drawn == 5
    assert pixels(SampleStore(tmp_path / "cut")) == pixels(SampleStore(tmp_path / "whole"))
    assert generate(SampleStore(tmp_path / "cut"), prompt_set().prompts, protocol(), never, {}).there == 12


def test_shards_draw_disjoint_parts_of_the_same_samples(tmp_path):
    draw(SampleStore(tmp_path / "whole"), FakeSampler())
    drawn = []
    for number in (1, 2, 3, 4):
        sampler = FakeSampler()
        draw(SampleStore(tmp_path / "parts"), sampler, shard=Shard(number, 4))
        drawn.append(len(sampler.drawn))
    assert drawn == [4, 4, 2, 2]
    assert len(list((tmp_path / "parts").glob("manifest.*-of-4.jsonl"))) == 4
    assert pixels(SampleStore(tmp_path / "parts")) == pixels(SampleStore(tmp_path / "whole"))


def test_failures_keep_their_reason_and_take_no_other_with_them(tmp_path):
    store = SampleStore(tmp_path)
    outcome = draw(store, FakeSampler(broken=["prompt 1"]))
    assert (outcome.drawn, outcome.failed) == (10, 2)
    reasons = {record.reason for record in SampleStore(tmp_path).records.values() if record.file is None}
    assert reasons == {"FloatingPointError: not finite for prompt 1"}
    # not tried again unless asked for
    assert generate(SampleStore(tmp_path), prompt_set().prompts, protocol(), never, {}).drawn == 0
    assert draw(SampleStore(tmp_path), FakeSampler(), retry=True).drawn == 2
    assert all(record.reason is None for record in SampleStore(tmp_path).records.values())


def test_a_model_that_only_fails_is_given_up(tmp_path):
    with pytest.raises(RuntimeError, match=r"the first \d+ samples all failed: FloatingPointError"):
        draw(SampleStore(tmp_path), FakeSampler(broken=[f"prompt {n}" for n in range(6)]))


def test_lost_and_changed_files_are_noticed(tmp_path):
    store = SampleStore(tmp_path)
    draw(store, FakeSampler())
    first, second, *_ = store.records.values()
    (tmp_path / first.file).unlink()
    assert len(missing(SampleStore(tmp_path), prompt_set().prompts, (0, 1), None)) == 1
    other = next(record for record in store.records.values() if record.sha256 != second.sha256 and record != first)
    (tmp_path / second.file).write_bytes((tmp_path / other.file).read_bytes())
    with pytest.raises(ValueError, match="was changed after it was drawn"):
        store.read(second)


def test_edited_and_cut_off_samples_are_in_no_report_and_stop_none(tmp_path):
    folder, plan = open_plan(tmp_path)
    for model in plan.models:
        draw(folder.samples(model), FakeSampler())
    score(folder, plan, "clip_score", FakeJudge, None)
    whole = collect(folder)
    store = folder.samples(plan.models[1])
    edited, cut, touched = (store.folder / record.file for record in list(store.records.values())[:3])
    before, whole_png = edited.stat(), cut.read_bytes()
    with Image.open(edited) as image:
        Image.new("RGB", image.size, "red").save(edited)
    # as an editor does that keeps times
    os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))
    cut.write_bytes(whole_png[: len(whole_png) // 2])
    touched.touch()
    found = collect(folder)
    assert [model.count for model in found.models] == [12, 10]
    assert found.models[1].failures == {CHANGED: 2}
    table = found.table("tuned", "clip_score")
    assert np.isnan(table).sum() == 2 and np.isnan(table[0, 0]) and np.isnan(table[0, 1])
    assert (table[1:] == whole.table("tuned", "clip_score")[1:]).all()
    # what was only touched is decoded once
    assert [line["file"] for line in read_lines(store.folder, "checked")] == [
        touched.relative_to(store.folder).as_posix()
    ]
    page = gallery(found, found.columns[0], "base")
    assert page.count("no sample") == 1 and page.count("data:image/png") == 2 * 6 - 1
    # drawn again, it is scored again without being asked to retry
    edited.unlink()
    draw(folder.samples(plan.models[1]), FakeSampler())
    cut.unlink()
    draw(folder.samples(plan.models[1]), FakeSampler())
    assert score(folder, plan, "clip_score", FakeJudge, None) == 0
    assert (collect(folder).table("tuned", "clip_score") == whole.table("tuned", "clip_score")).all()


def test_noise_belongs_to_prompt_and_seed_alone():
    prompts = prompt_set().prompts
    seeds = {(prompt.key, seed): sample_seed(prompt, seed) for prompt in prompts for seed in range(4)}
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds.values())
    assert sample_seed(Prompt("p1", "prompt 1", (("other", "x"),)), 2) == seeds[prompts[1].key, 2]


def test_scores_are_made_once_and_new_models_add_to_them(tmp_path):
    folder, plan = open_plan(tmp_path)
    for model in plan.models:
        draw(folder.samples(model), FakeSampler())
    judge = FakeJudge()
    score(folder, plan, "clip_score", lambda: judge, None)
    # both models drew the same pixels: one score serves both
    assert judge.seen == 12
    again = FakeJudge()
    assert score(folder, plan, "clip_score", lambda: again, None) == 0 and again.seen == 0
    report, _ = analyse(folder)
    assert [row["prompts"] for row in report["scores"]] == [6, 6]
    assert report["differences"][0]["mean"] == 0 and report["differences"][0]["win_rate"][0] == 0.5


def test_a_sample_that_cannot_be_judged_is_counted(tmp_path):
    folder, plan = open_plan(tmp_path, ["base"])
    draw(folder.samples(plan.models[0]), FakeSampler())
    score(folder, plan, "clip_score", lambda: FakeJudge(broken=["prompt 2"]), None)
    report, _ = analyse(folder)
    assert report["scores"][0]["prompts"] == 5
    assert report["scores"][0]["not_scored"] == {"ValueError: cannot judge prompt 2": 2}
    assert any("cannot judge prompt 2" in line for line in report["warnings"])
    assert score(folder, plan, "clip_score", FakeJudge, None, retry=True) == 2
    assert analyse(folder)[0]["scores"][0]["not_scored"] == {}


def test_shards_of_scores_are_one_whole(tmp_path):
    folder, plan = open_plan(tmp_path, ["base"])
    draw(folder.samples(plan.models[0]), FakeSampler())
    for number in (1, 2):
        score(folder, plan, "clip_score", FakeJudge, None, shard=Shard(number, 2))
    assert analyse(folder)[0]["scores"][0]["prompts"] == 6


def test_a_folder_is_for_one_protocol_and_one_prompt_set(tmp_path):
    folder, _ = open_plan(tmp_path)
    assert open_plan(tmp_path, ["base", "third"])[1].models[2].name == "third"
    assert folder.load() == open_plan(tmp_path)[1]
    with pytest.raises(ValueError, match=r"holds smoke-image .* name another folder"):
        open_plan(tmp_path, steps=3)
    with pytest.raises(ValueError, match="on 6 prompts"):
        open_plan(tmp_path, count=5)


def test_lines_survive_a_cut_and_are_read_from_all_shards(tmp_path):
    with LineWriter(tmp_path, "x") as writer:
        writer.write({"n": 1})
    with (tmp_path / "x.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"n": 2, "te')
    with LineWriter(tmp_path, "x") as writer:
        writer.write({"n": 3, "text": "line\u2028separator"})
    with LineWriter(tmp_path, "x", Shard(2, 2)) as writer:
        writer.write({"n": 4})
    assert sorted(line["n"] for line in read_lines(tmp_path, "x")) == [1, 3, 4]
    # a digit that flipped, and a line of before, which had no check
    file = tmp_path / "x.jsonl"
    file.write_bytes(file.read_bytes().replace(b'{"n": 3', b'{"n": 8') + b'{"n": 5}\n{"n": \xff6}\n')
    assert [line["n"] for line in read_lines(tmp_path, "x")] == [4, 1, 5]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_shards_that_are_none(text):
    with pytest.raises(ValueError, match="--shard"):
        Shard.parse(text)
