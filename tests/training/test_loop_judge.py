"""loop.judge: winners and losers among the policy's own samples, through the real commands."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from seppo_core.config.method import MethodConfig
from seppo_core.run.history import read_events, read_metrics
from seppo_core.run.status import read_status, status_text
from seppo_core.training.judged import Judged
from seppo_core.training.loop_judge import ANSWERS, SCORES, JudgedSamples
from seppo_core.training.reference_samples import ReferenceSampler
from seppo_core.training.sample_buffer import SampleBuffer
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from tests.dying import Killed, deaths
from tests.training.judged_runs import COUNT, assert_same, config_of, drawn_here, red


def test_the_best_of_the_policy_s_samples_wins_and_the_worst_loses(judged_whole):
    """Held against samples that are drawn, decoded and measured here, of the weights of the second iteration."""
    for position in (4, 7):
        latents = drawn_here(judged_whole.parts, 1, position)
        measured = red(judged_whole.parts, latents)
        batch, place = judged_whole.places[position]
        torch.testing.assert_close(batch.x0[place], latents[measured.argmax()], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(batch.counterpart[place], latents[measured.argmin()], atol=1e-4, rtol=1e-3)


def test_scores_are_told_and_used_samples_go(judged_run):
    lines, events = read_metrics(judged_run), read_events(judged_run)
    assert [line["iteration"] for line in lines] == [0, 0, 1, 1]
    assert all(line["judge_worst"] < line["judge_score"] < line["judge_best"] for line in lines)
    assert [event["count"] for event in events if event["event"] == "judged"] == [4 * COUNT] * 2
    told = status_text(read_status(judged_run))
    assert f"judge       mean score {lines[-1]['judge_score']:.4g} of the samples of iteration 2" in told
    assert not [path for path in (judged_run / "buffer").rglob("*") if path.is_file()]
    # both are kept: either may be asked for again by a run that goes on
    assert len(list((judged_run / "pool").iterdir())) == 2


@pytest.mark.parametrize(
    "moment", ["judging", *(pytest.param(name, marks=pytest.mark.slow) for name in ("drawing", "training"))]
)
def test_a_killed_run_goes_on_to_the_same_end(prompts, tmp_path, monkeypatch, judged_run, moment):
    place, name, call = {
        "drawing": (ReferenceSampler, "steps", 5),
        "judging": (JudgedSamples, "_ask", 2),
        "training": (Trainer, "_update", 4),
    }[moment]
    config, original, calls = config_of(prompts, tmp_path / "run"), getattr(place, name), []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, dying)
        with pytest.raises(Killed):
            commands.train(config)
    with monkeypatch.context() as patch:
        scored = []
        ask = JudgedSamples._ask
        patch.setattr(JudgedSamples, "_ask", lambda self, b, p, n: scored.extend(p) or ask(self, b, p, n))
        commands.train(config)
    # in the middle of an iteration nothing is judged again
    assert len(scored) == (0 if moment == "training" else 4 * COUNT)
    assert_same(tmp_path / "run", judged_run)


class Numbers:
    """A judge of latents that says what it was asked for, and fails on some."""

    name, fingerprint, reads_files = "numbers", "1", False

    def __init__(self, fails=()):
        self.fails, self.asked = set(fails), []

    def score(self, samples, add):
        for one in samples:
            self.asked.append(one.seed)
            add(one, "it is ill" if one.seed in self.fails else float(one.seed % 5))


def judged_samples(folder: Path, judge) -> tuple[JudgedSamples, SampleBuffer]:
    buffer = SampleBuffer(folder / "buffer", 12, 24, 4, "weights")
    buffer.fill(lambda positions: torch.zeros(len(positions), 3, 2, 2), buffer.missing())
    sampler = SimpleNamespace(
        adapter=SimpleNamespace(decode=lambda latents: latents), device="cpu",
        captions=lambda positions: [f"caption {position // COUNT}" for position in positions],
    )  # fmt: skip
    samples = SimpleNamespace(
        sampler=sampler, chunk=4, layout=SimpleNamespace(accelerator=SimpleNamespace(autocast=lambda: torch.no_grad()))
    )
    made = JudgedSamples(
        samples, judge, SimpleNamespace(write=None), folder, count=COUNT, positions=4, sample_bytes=2**29
    )
    return made, buffer


STOP = SimpleNamespace(check_alone=lambda: None)


def test_a_kill_at_any_write_asks_for_nothing_twice(tmp_path):
    numbers = iter(range(1000))
    folders = lambda: tmp_path / str(next(numbers))  # noqa: E731
    judges = {}

    def work(folder):
        judges[folder] = Numbers()
        made, buffer = judged_samples(folder, judges[folder])
        made._judge(buffer, STOP)

    for moment, folder in deaths(folders, work):
        again = Numbers()
        made, buffer = judged_samples(folder, again)
        made._judge(buffer, STOP)
        assert made._scores(buffer) == [float(position % 5) for position in range(12, 24)], moment
        before = judges[folder].asked
        # the answer that was being written may be asked for again
        assert len(set(before[:-1]) & set(again.asked)) == 0, moment


def test_a_judge_that_breaks_stops_with_one_line_and_what_it_said_is_kept(tmp_path):
    ill = Numbers(fails=(16, 17))
    made, buffer = judged_samples(tmp_path, ill)
    with pytest.raises(
        ValueError, match=r"loop.judge numbers: 1 of 3 samples of 'caption 5' has a score \(it is ill\)"
    ) as error:
        made._judge(buffer, STOP)
    assert "\n" not in str(error.value) and "4 scores are kept in" in str(error.value)
    well, buffer = judged_samples(tmp_path, Numbers(fails=(20,)))
    well._judge(buffer, STOP)
    assert 12 not in well.judge.asked and 16 in well.judge.asked
    scores = well._scores(buffer)
    assert scores[20 - 12] is None and scores[0] == 2.0
    # another judge begins anew, and what is damaged too
    other = Numbers()
    other.fingerprint = "2"
    made, buffer = judged_samples(tmp_path, other)
    assert made._scores(buffer) is None
    made._judge(buffer, STOP)
    assert len(other.asked) == 12 and json.loads((buffer.folder / ANSWERS).read_text().splitlines()[0])["of"].endswith(
        "2"
    )
    (buffer.folder / SCORES).write_text((buffer.folder / SCORES).read_text().replace("4.0", "9.0", 1))
    assert made._scores(buffer) is None


def test_best_and_worst_by_hand():
    nan = float("nan")
    scores = torch.tensor([[0.1, 0.9, 0.9], [nan, 2.0, 1.0], [0.5, 0.5, 0.5]], dtype=torch.float64)
    judged = Judged(SimpleNamespace(start=30), scores, first=10)
    assert judged.best([10, 11, 12]) == [31, 34, 36]
    # where nothing is preferred the winner is the loser
    assert judged.worst([12, 11, 10]) == [36, 35, 30]
    told = judged.metrics()
    assert told["judge_score"] == pytest.approx(6.4 / 8) and told["judge_unscored"] == pytest.approx(1 / 9)
    assert told["judge_best"] == pytest.approx((0.9 + 2 + 0.5) / 3) and told["judge_worst"] == pytest.approx(1.6 / 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loop": {"judge": None}}, r"data.supervision=prompts has captions alone.* set loop.judge"),
        ({"data": {"supervision": "winners"}}, r"loop.judge=.* set data.supervision=prompts"),
        ({"loop": {"judge_samples": 1}}, r"loop.judge_samples=1 must be at least 2"),
        ({"loop": {"judge": " "}}, r"loop.judge is empty"),
        ({"loop": {"judge": None, "judge_column": "x"}}, r"loop.judge_column=x needs loop.judge"),
        ({"data": {"validation": 0.1}}, r"data.validation=0.1 needs pictures or clips"),
    ],
)
def test_settings_that_cannot_work_are_refused(prompts, tmp_path, changes, message):
    config = config_of(prompts, tmp_path)
    with pytest.raises(ValueError, match=message):
        replace(config, **{section: replace(getattr(config, section), **one) for section, one in changes.items()})


def test_what_does_not_fit_is_told_before_anything_is_loaded(prompts, workshop, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "load", lambda *_: pytest.fail("the base was loaded"))
    with pytest.raises(ValueError, match=r"loop.judge tests.judges:gone cannot be imported"):
        commands.train(config_of(prompts, tmp_path / "judge", judge="tests.judges:gone"))
    config, winners = config_of(prompts, tmp_path / "run"), workshop.config(tmp_path / "run")
    with pytest.raises(ValueError, match=r"data.supervision=prompts, but .* holds winners"):
        commands.train(replace(config, data=replace(config.data, cache=str(workshop.cache))))
    with pytest.raises(ValueError, match=r"holds prompts; prepare the data"):
        commands.train(replace(winners, data=replace(winners.data, cache=str(prompts.cache), flip=False)))
    with pytest.raises(ValueError, match=r"method.name=kto learns from labels, but .* holds prompts"):
        commands.train(replace(config, method=MethodConfig.variants()["kto"]()))
    assert not (tmp_path / "run").exists()
