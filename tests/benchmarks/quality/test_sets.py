"""Distances between sets in a report: of which prompts, what is left out and why, and against which model."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.evaluation.analysis import analyse
from benchmarks.evaluation.generate import generate
from benchmarks.evaluation.metric_adapters import SetJudge
from benchmarks.evaluation.metrics.distances import frechet_distance
from benchmarks.evaluation.references import References
from benchmarks.evaluation.report.files import write_report
from benchmarks.evaluation.report.text import set_rows
from benchmarks.evaluation.score import score
from benchmarks.evaluation.set_comparison import FEW_RESAMPLES
from seppo_core.judging.metric import FeatureExtractor
from tests.benchmarks.quality.fake import FakeSampler, open_plan

PROMPTS, REFERENCES = 8, 5
FID = "fid[clean]"


class Brightness(FeatureExtractor):
    """Mean colours; `broken` frames, by their first value's sum, raise."""

    name = "inception"

    def __init__(self, broken=()):
        super().__init__(nn.Module(), (), {})
        self.broken, self.seen = set(broken), 0

    @property
    def column(self):
        return "inception[clean]"

    def extract(self, frames):
        self.seen += 1
        if int(frames.sum()) in self.broken:
            raise RuntimeError("no features of this one")
        return frames.float().mean((2, 3))


@pytest.fixture
def drawn(tmp_path):
    """Two models, the second darker, of eight prompts by two seeds; five real pictures."""
    folder, plan = open_plan(tmp_path, ["base", "tuned"], PROMPTS, references=True, height=12, width=12)
    for number, model in enumerate(plan.models):
        sampler = FakeSampler()
        if number:
            draw = sampler._frames
            sampler._frames = lambda job, draw=draw: draw(job) // 2
        generate(folder.samples(model), plan.prompts.prompts, plan.protocol, lambda s=sampler: s, {})
    (tmp_path / "real").mkdir()
    real = tmp_path / "real"
    add_references(real, plan.prompts.prompts[:REFERENCES])
    return folder, plan, References(real, plan.protocol, plan.prompts.prompts)


def add_references(folder, prompts):
    for number, prompt in enumerate(prompts):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{prompt.id}.png")


def judge(drawn, extractor=None, metric=FID, **options):
    folder, plan, references = drawn
    extractor = extractor or Brightness()
    judged = score(folder, plan, metric, lambda: SetJudge(metric, extractor, folder.cache), references, **options)
    return judged, extractor


def frames_of(drawn, model, prompt, seed=0):
    folder, plan, _ = drawn
    store = folder.samples(plan.models[model])
    return store.read(store.find(plan.prompts.prompts[prompt], seed))


def expected(drawn, model, prompts):
    _, plan, references = drawn
    rows = [Brightness().features(frames_of(drawn, model, number, seed)) for number in prompts for seed in (0, 1)]
    real = [Brightness().features(references.read(plan.prompts.prompts[number])) for number in prompts]
    return frechet_distance(torch.cat(rows), torch.cat(real))


def test_sets_are_compared_without_loading_the_extractor_again(drawn):
    judge(drawn)
    report, _ = analyse(drawn[0])
    found = {row["model"]: row for row in report["scores"]}
    for number, name in enumerate(("base", "tuned")):
        assert found[name]["mean"] == pytest.approx(expected(drawn, number, range(5)), rel=1e-6)
    gain = found["tuned"]["mean"] - found["base"]["mean"]
    assert report["differences"][0]["mean"] == pytest.approx(gain)
    assert analyse(drawn[0])[0]["sets"] == report["sets"]


@pytest.mark.slow
def test_differences_are_to_whichever_model_is_asked_for(drawn):
    judge(drawn)
    (to_base,) = analyse(drawn[0])[0]["differences"]
    report = analyse(drawn[0], "tuned")[0]
    (to_tuned,) = report["differences"]
    assert (to_tuned["model"], to_tuned["baseline"]) == ("base", "tuned")
    # the same draws of prompts, seen from the other side
    values = [to_tuned["mean"], to_tuned["low"], to_tuned["high"]]
    assert values == pytest.approx([-to_base["mean"], -to_base["high"], -to_base["low"]])
    assert report["scores"] == analyse(drawn[0])[0]["scores"]


@pytest.mark.slow
def test_what_is_left_out_is_said_wherever_the_number_is(drawn):
    judge(drawn)
    report = write_report(drawn[0])
    assert [(row["prompts"], row["left_out"]) for row in report["scores"]] == [(5, 3), (5, 3)]
    (warning,) = (line for line in report["warnings"] if FID in line)
    assert warning == f"{FID} leaves out 3 of 8 prompts for all models: 3 × no reference of this prompt."
    rows = set_rows(report)
    assert [row[0] for row in rows] == ["base", "tuned"] and rows[0][3:5] == ["5", "3"] and rows[0][6] == "1000"
    assert rows[0][5] == f"{report['scores'][0]['bias']:+.2f}"
    for name in ("table.md", "index.html", "table.tex"):
        text = (drawn[0].folder / name).read_text(encoding="utf-8")
        assert "leaves out 3 of 8 prompts" in text, name
    for name in ("table.md", "index.html"):
        text = (drawn[0].folder / name).read_text(encoding="utf-8")
        assert "left out" in text and "bootstrap draws" in text and rows[0][5] in text, name


@pytest.mark.slow
def test_one_failed_sample_costs_its_prompt_and_is_tried_again_when_asked(drawn):
    broken = int(frames_of(drawn, 1, 2).sum())
    assert judge(drawn, Brightness([broken]))[0] == 2 * 2 * PROMPTS
    report = analyse(drawn[0])[0]
    assert report["sets"][FID]["left_out_reasons"] == {
        "tuned: RuntimeError: no features of this one": 1, "no reference of this prompt": 3,
    }  # fmt: skip
    rows = [0, 1, 3, 4]
    for number, row in enumerate(report["scores"]):
        assert row["prompts"] == 4 and row["mean"] == pytest.approx(expected(drawn, number, rows), rel=1e-6)
    (warning,) = (line for line in report["warnings"] if FID in line)
    assert "1 × tuned: RuntimeError: no features of this one" in warning and "--retry-failed" in warning
    # not without being asked
    assert judge(drawn)[0] == 0 and analyse(drawn[0])[0]["scores"][0]["prompts"] == 4
    assert judge(drawn, retry=True)[0] == 1
    report = analyse(drawn[0])[0]
    assert report["scores"][0]["prompts"] == 5 and not any("--retry-failed" in line for line in report["warnings"])


@pytest.mark.slow
def test_a_reference_without_features_costs_its_prompt_too(drawn):
    _folder, plan, references = drawn
    broken = int(references.read(plan.prompts.prompts[1]).sum())
    judge(drawn, Brightness([broken]))
    report = analyse(drawn[0])[0]
    reasons = report["sets"][FID]["left_out_reasons"]
    assert reasons["reference: RuntimeError: no features of this one"] == 1
    assert report["scores"][0]["mean"] == pytest.approx(expected(drawn, 0, [0, 2, 3, 4]), rel=1e-6)
    assert judge(drawn)[1].seen == 0
    assert judge(drawn, retry=True)[1].seen == 1
    assert analyse(drawn[0])[0]["scores"][0]["prompts"] == 5


@pytest.mark.slow
def test_features_that_were_lost_are_computed_again(drawn):
    folder = drawn[0]
    judge(drawn)
    before = analyse(folder)[0]["scores"]
    first, second, *_ = sorted((folder.cache / "features").rglob("*.safetensors"))
    first.unlink()
    second.write_bytes(b"damaged")
    reasons = analyse(folder)[0]["sets"][FID]["left_out_reasons"]
    assert sum(reasons.values()) >= 3
    judge(drawn)
    assert analyse(folder)[0]["scores"] == before


def test_too_few_complete_prompts_say_so_once(drawn):
    folder, plan, references = drawn
    for file in sorted(references.folder.iterdir())[1:]:
        file.unlink()
    judge((folder, plan, References(references.folder, plan.protocol, plan.prompts.prompts)))
    report = write_report(folder)
    assert all("mean" not in row for row in report["scores"]) and not report["differences"]
    assert f"{FID}: complete: 1 prompt; a set needs at least 2." in report["warnings"]
    assert json.loads((folder.folder / "report.json").read_text(encoding="utf-8"))["sets"][FID]["left_out"] == 7


def test_a_draw_of_one_prompt_alone_is_a_reason_and_no_crash(drawn):
    _folder, _plan, references = drawn
    for file in sorted(references.folder.iterdir())[2:]:
        file.unlink()
    judge(
        (drawn[0], drawn[1], References(references.folder, drawn[1].protocol, drawn[1].prompts.prompts)),
        metric="kid[clean]",
    )
    (warning,) = (line for line in write_report(drawn[0])["warnings"] if "no interval" in line)
    assert warning.startswith("kid[clean]: no interval from 2 prompts: one row of features alone")


@pytest.mark.slow
def test_few_bootstrap_draws_are_said_and_more_can_be_asked_for(drawn, monkeypatch):
    folder, plan, references = drawn
    add_references(references.folder, plan.prompts.prompts)
    drawn = (folder, plan, References(references.folder, plan.protocol, plan.prompts.prompts))
    judge(drawn)
    judge(drawn, metric="kid[clean]")
    monkeypatch.setattr("benchmarks.evaluation.set_comparison.MANY_ROWS", 9)
    sets = analyse(drawn[0])[0]["sets"]
    # kernels are computed once for all draws
    assert (sets[FID]["resamples"], sets["kid[clean]"]["resamples"]) == (FEW_RESAMPLES, 1000)
    (warning,) = (line for line in analyse(drawn[0])[0]["warnings"] if "outermost few" in line)
    assert warning.startswith(f"{FID}: ") and f"of {FEW_RESAMPLES} bootstrap draws" in warning
    report = write_report(drawn[0], set_resamples=400)
    assert {found["resamples"] for found in report["sets"].values()} == {400}
    assert not any("outermost few" in line for line in report["warnings"])
