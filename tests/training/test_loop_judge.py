"""loop.judge: winners and losers among the policy's own samples, through the real commands."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.method import MethodConfig
from seppo_core.io.rng import keyed_stream
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.run.checkpoint import CheckpointFolder, load_policy
from seppo_core.run.history import read_events, read_metrics
from seppo_core.run.status import read_status, status_text
from seppo_core.training.batches import BatchMaker, WinnerOrder
from seppo_core.training.judged import Judged
from seppo_core.training.loop_judge import ANSWERS, SCORES, JudgedSamples
from seppo_core.training.reference_samples import ReferenceSampler
from seppo_core.training.sample_buffer import SampleBuffer
from seppo_core.training.trainer import Trainer
from seppo_image import commands
from tests.dying import Killed, deaths
from tests.judges import process_judge
from tests.training.test_processes import trained
from tests.workshop import Workshop

WORDS = ("a red wall", "a green wall", "a blue wall", "a grey wall", "a wall")
COUNT = 3
JUDGE = "tests.judges:redness"


@pytest.fixture(scope="module")
def prompts(workshop, tmp_path_factory) -> Workshop:
    """The workshop with a cache of prompts alone."""
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "prompts.txt").write_text("\n".join(WORDS))
    made = Workshop(workshop.base, folder / "prompts.txt", folder / "cache")
    commands.prepare(config_of(made, folder / "unused"))
    return made


def config_of(workshop, run, method: str = "dpo", mode: str = "full", judge: str = JUDGE, **loop):
    config = workshop.config(run, mode, method)
    changed = {"updates_per_iteration": 2, "batch_size": 2, "checkpoint_every": 1} | loop
    return replace(
        config,
        data=replace(config.data, supervision="prompts", flip=False),
        reference_samples=replace(config.reference_samples, guidance_scale=1.0, batch_size=4),
        loop=replace(config.loop, judge=judge, judge_samples=COUNT, **changed),
    )


def watched(config, patch) -> SimpleNamespace:
    """Trains; the batch and the place in it of each training position, and the parts of the run."""
    made, make, init = SimpleNamespace(run=Path(config.run), places={}), BatchMaker.make, Trainer.__init__
    size = config.loop.batch_size

    def watching(self, update, indices, *rest):
        batch = make(self, update, indices, *rest)
        made.places |= {update * size + index: (batch, place) for place, index in enumerate(indices)}
        return batch

    def begun(self, parts):
        made.parts = parts
        init(self, parts)

    patch.setattr(BatchMaker, "make", watching)
    patch.setattr(Trainer, "__init__", begun)
    commands.train(config)
    return made


@pytest.fixture(scope="module")
def whole(prompts, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return watched(config_of(prompts, tmp_path_factory.mktemp("whole") / "run"), patch)


@pytest.fixture
def undisturbed(whole) -> Path:
    return whole.run


def assert_same(run: Path, other: Path) -> None:
    a, b = (load_policy(CheckpointFolder(one / "checkpoints").latest()) for one in (run, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    timings = ("seconds", "data_seconds", "samples_per_second")
    a, b = ([{k: v for k, v in line.items() if k not in timings} for line in read_metrics(one)] for one in (run, other))
    assert a == b


def drawn_here(parts, iteration: int, position: int, count: int = COUNT) -> torch.Tensor:
    """Samples of a position's caption by the snapshot of that iteration, drawn by themselves."""
    adapter, cache, config = parts.adapter, parts.cache, parts.config
    snapshot = load_file(Path(config.run) / "pool" / f"snapshot-{iteration:04d}.safetensors")
    adapter.denoiser.load_state_dict(snapshot, strict=False)
    item = WinnerOrder(len(cache), config.seed, config.draws).item(position)
    condition = cache.condition([item], [False])
    places = range(count * position, count * (position + 1))
    noise = [keyed_stream(2, config.seed, "candidate", iteration, place).normal(cache.latent_shape) for place in places]
    expanded = {name: value.expand(count, *value.shape[1:]) for name, value in condition.items()}
    with torch.no_grad():
        return sample(
            adapter, adapter.denoiser, expanded,
            noise=torch.stack(noise), steps=2, guidance_scale=1.0, scheduler=make_scheduler("ddim", adapter.scheduler),
        )  # fmt: skip


def red(parts, latents: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return parts.adapter.decode(latents)[:, 0].mean((1, 2))


def test_the_best_of_the_policy_s_samples_wins_and_the_worst_loses(whole):
    """Held against samples that are drawn, decoded and measured here, of the weights of the second iteration."""
    for position in (4, 7):
        latents = drawn_here(whole.parts, 1, position)
        measured = red(whole.parts, latents)
        batch, place = whole.places[position]
        torch.testing.assert_close(batch.x0[place], latents[measured.argmax()], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(batch.counterpart[place], latents[measured.argmin()], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_the_best_wins_against_the_reference_s_own_sample(prompts, tmp_path, monkeypatch):
    made = watched(config_of(prompts, tmp_path / "run", "seppo"), monkeypatch)
    latents = drawn_here(made.parts, 1, 4)
    batch, place = made.places[4]
    torch.testing.assert_close(batch.x0[place], latents[red(made.parts, latents).argmax()], atol=1e-4, rtol=1e-3)
    assert all(not torch.allclose(batch.counterpart[place], one, atol=0.1) for one in latents)


def test_scores_are_told_and_used_samples_go(undisturbed):
    lines, events = read_metrics(undisturbed), read_events(undisturbed)
    assert [line["iteration"] for line in lines] == [0, 0, 1, 1]
    assert all(line["judge_worst"] < line["judge_score"] < line["judge_best"] for line in lines)
    assert [event["count"] for event in events if event["event"] == "judged"] == [4 * COUNT] * 2
    told = status_text(read_status(undisturbed))
    assert f"judge       mean score {lines[-1]['judge_score']:.4g} of the samples of iteration 2" in told
    assert not [path for path in (undisturbed / "buffer").rglob("*") if path.is_file()]
    # both are kept: either may be asked for again by a run that goes on
    assert len(list((undisturbed / "pool").iterdir())) == 2


@pytest.mark.parametrize(
    "moment", ["judging", *(pytest.param(name, marks=pytest.mark.slow) for name in ("drawing", "training"))]
)
def test_a_killed_run_goes_on_to_the_same_end(prompts, tmp_path, monkeypatch, undisturbed, moment):
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
    assert_same(tmp_path / "run", undisturbed)


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


@pytest.mark.slow
def test_a_process_that_breaks_loses_no_run(prompts, tmp_path, undisturbed):
    judge, ill = process_judge(tmp_path)
    config = config_of(prompts, tmp_path / "run", judge=judge)
    ill.touch()
    with pytest.raises(
        ValueError, match=r"loop.judge red: .*answers nothing.*the same command goes on: samples and 0 scores"
    ):
        commands.train(config)
    assert read_events(tmp_path / "run")[-1]["event"] == "failed"
    ill.unlink()
    commands.train(config)
    lines, theirs = read_metrics(tmp_path / "run"), read_metrics(undisturbed)
    assert len(lines) == 4 and not list((tmp_path / "run").glob(".*"))
    # it judges the same colour, of files in eight bits
    assert lines[0]["loss"] == theirs[0]["loss"] and lines[0]["winner_error"] == theirs[0]["winner_error"]


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "mode"), [("sft", "full"), ("sft", "lora"), ("gt_pair", "lora"), ("sspo", "full"), ("mapo", "lora")]
)
def test_every_method_of_winners_or_pairs_learns_from_captions_and_resumes(
    prompts, tmp_path, monkeypatch, method, mode
):
    def made(run):
        config = config_of(prompts, run, "sft", mode)
        return replace(
            config,
            method=MethodConfig.variants()[method](**({"beta": 50} if method[0] in "gs" and method != "sft" else {})),
        )

    commands.train(made(tmp_path / "whole"))
    update = Trainer._update

    def dying(self, number, batches):
        if number == 3:
            raise Killed
        return update(self, number, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", dying)
        with pytest.raises(Killed):
            commands.train(made(tmp_path / "run"))
    commands.train(made(tmp_path / "run"))
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert ("reference" in read_metrics(tmp_path / "run")[0]) == made("x").method.spec.uses_reference


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "seppo"])
def test_two_processes_equal_one(prompts, tmp_path, method):
    config = config_of(prompts, tmp_path / "two", method, micro_batch_size=1)
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    status, told = trained(path, 2)
    assert status == 0, told[-3000:]
    commands.train(replace(config, run=str(tmp_path / "one")))
    for a, b in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        for name in ("loss", "grad_norm", "judge_score", "judge_best", "judge_worst"):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-4), (a["update"], name)


@pytest.mark.slow
def test_a_judge_that_breaks_in_one_of_two_processes_ends_both_with_its_line(prompts, tmp_path):
    config = config_of(prompts, tmp_path / "two", judge="tests.judges:failing", micro_batch_size=1)
    (tmp_path / "config.yaml").write_text(resolved_yaml(config))
    status, told = trained(tmp_path / "config.yaml", 2)
    assert status == 2 and told.count("loop.judge tests.judges:failing: 0 of 3 samples of") == 1


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
