"""reference_samples.uses: one own sample for several pairs of its iteration, each with draws of its own."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.method import MethodConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.export.model_card import model_card
from seppo_core.io.rng import keyed_stream
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.run.history import read_events, read_metrics
from seppo_core.run.status import read_status
from seppo_core.training.batches import WinnerOrder
from seppo_core.training.meetings import Meetings
from seppo_image import commands
from tests.dying import killed_before_update
from tests.training.judged_runs import assert_same, watched
from tests.training.test_processes import trained

ITERATIONS, UPDATES, BATCH, USES = 2, 3, 4, 3
PAIRS = UPDATES * BATCH
DRAWN = PAIRS // USES


def used(workshop, run, times: int = USES, mode: str = "full", **loop):
    config = workshop.config(run, mode)
    return replace(
        config,
        method=SeppoConfig(beta=50, reference="latest"),
        data=replace(config.data, posterior="mode"),
        reference_samples=replace(config.reference_samples, uses=times),
        loop=replace(config.loop, **loop),
    )


@pytest.fixture(scope="module")
def made(workshop, tmp_path_factory):
    """A whole run, and the batch that each of its positions was in."""
    with pytest.MonkeyPatch.context() as patch:
        yield watched(used(workshop, tmp_path_factory.mktemp("used") / "run"), patch)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_an_iteration_goes_through_all_of_its_samples_so_many_times(uses, samples, iteration, seed):
    meetings = Meetings(per_iteration=uses * samples, uses=uses, seed=seed)
    first = iteration * uses * samples
    met = [meetings.sample(position) for position in range(first, first + uses * samples)]
    own = range(iteration * samples, (iteration + 1) * samples)
    assert met[:samples] == list(own)
    for number in range(uses):
        assert sorted(met[number * samples : (number + 1) * samples]) == list(own)


def test_every_time_is_in_another_order():
    meetings = Meetings(per_iteration=120, uses=4)
    orders = [tuple(meetings.sample(30 * number + place) % 30 for place in range(30)) for number in range(12)]
    # the first of each of the three iterations is that in which they were drawn
    assert orders[0] == orders[4] == orders[8] and len(set(orders)) == 10
    other = replace(meetings, seed=1)
    assert [other.sample(place) for place in range(30, 60)] != [meetings.sample(place) for place in range(30, 60)]


def drawn_by_hand(made, base, iteration: int) -> tuple[list[int], torch.Tensor]:
    """The items of an iteration's places in the run, and what its snapshot draws for them from the places' noises."""
    config, cache = made.parts.config, made.parts.cache
    base.denoiser.load_state_dict(load_file(made.run / "pool" / f"snapshot-{iteration:04d}.safetensors"), strict=False)
    places = range(iteration * DRAWN, (iteration + 1) * DRAWN)
    items = [WinnerOrder(len(cache), config.seed, config.draws).item(place) for place in places]
    noise = [keyed_stream(2, config.seed, "sample", iteration, place).normal(cache.latent_shape) for place in places]
    with torch.no_grad():
        drawn = sample(
            base, base.denoiser, cache.condition(items, [False] * DRAWN), noise=torch.stack(noise), steps=2,
            guidance_scale=2.0, unconditional=cache.unconditional(), scheduler=make_scheduler("ddim", base.scheduler),
        )  # fmt: skip
    return items, drawn


def test_each_winner_meets_its_sample_at_new_draws(made):
    cache, seed = made.parts.cache, made.parts.config.seed
    empty, times, base = cache.unconditional()["text"][0], [], commands.load(made.parts.config)
    for iteration in range(ITERATIONS):
        (items, own), met = drawn_by_hand(made, base, iteration), Counter()
        for position in range(iteration * PAIRS, (iteration + 1) * PAIRS):
            batch, place = made.places[position]
            found = [n for n in range(DRAWN) if torch.allclose(batch.counterpart[place], own[n], atol=1e-4)]
            assert len(found) == 1
            item = items[found[0]]
            met[found[0]] += 1
            stream = keyed_stream(2, seed, "draws", position // BATCH, position % BATCH)
            _, dropped, flipped = stream.uniform(3).tolist()
            assert torch.equal(batch.noise[place], stream.normal(cache.latent_shape))
            assert torch.equal(batch.counterpart_noise[place], stream.normal(cache.latent_shape))
            assert torch.equal(batch.x0[place], cache.posterior([item], [flipped < 0.5]).mean[0])
            text = empty if dropped < 0.3 else cache.condition([item], [False])["text"][0]
            assert torch.equal(batch.condition["text"][place], text)
            times.append(float(batch.t[place]))
        assert met == dict.fromkeys(range(DRAWN), USES)
        counterparts = [made.places[iteration * PAIRS + position] for position in range(BATCH)]
        # as many samples as an update has pairs: each of its pairs has another
        assert len({tuple(batch.counterpart[place].flatten().tolist()) for batch, place in counterparts}) == BATCH
    assert len(set(times)) > 0.9 * ITERATIONS * PAIRS
    assert [event["count"] for event in read_events(made.run) if event["event"] == "samples"] == [DRAWN] * ITERATIONS


@pytest.mark.parametrize("killed", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_goes_on_bit_for_bit(workshop, made, tmp_path, killed):
    run = tmp_path / "run"
    with killed_before_update(killed):
        commands.train(used(workshop, run))
    status = read_status(run)
    assert (status.update, status.samples) == (killed, DRAWN)
    commands.train(used(workshop, run))
    assert_same(run, made.run)
    # what is half used up is not drawn again
    assert [event["count"] for event in read_events(run) if event["event"] == "samples"] == [DRAWN] * ITERATIONS


@pytest.mark.parametrize(("mode", "sharded"), [("full", False), ("full", True), ("lora", False)], ids=str)
@pytest.mark.slow
def test_several_processes_equal_one(workshop, tmp_path, mode, sharded):
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(used(workshop, tmp_path / "two", 2, mode, micro_batch_size=1, sharded=sharded)))
    status, told = trained(path, 2)
    assert status == 0, told[-3000:]
    commands.train(used(workshop, tmp_path / "one", 2, mode, micro_batch_size=1))
    for a, b in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        assert a["sample_variance"] == pytest.approx(b["sample_variance"], rel=1e-3)
        for key in ("loss", "grad_norm", "winner_error"):
            assert a[key] == pytest.approx(b[key], rel=1e-3), (a["update"], key)


def test_the_card_says_it(made):
    card = model_card(made.parts.config, made.parts.adapter, "full", "update-000006")
    assert f"| pairs of each own sample | {USES} |" in card


@pytest.mark.parametrize(
    ("method", "changes", "told"),
    [
        ("sft", {}, "method.name=sft draws none; leave it out"),
        ("kto", {}, "method.name=kto draws none; leave it out"),
        ("gt_pair", {"reference_draws": 2}, "loop.reference_draws=2 lets them come again with all of their draws"),
        ("gt_pair", {"repeat_after": 2}, "reference_samples.repeat_after=2 lets them come again in later epochs"),
        ("spin", {"judge": "tests.judges:redness"}, "loop.judge=tests.judges:redness chooses a winner for every pair"),
    ],
)
def test_samples_that_cannot_serve_several_pairs_are_refused(workshop, tmp_path, method, changes, told):
    config = workshop.config(tmp_path / "run")
    samples = replace(config.reference_samples, uses=2, repeat_after=changes.pop("repeat_after", None))
    data = replace(config.data, flip=False, supervision="prompts" if "judge" in changes else "winners")
    with pytest.raises(ValueError, match=rf"reference_samples.uses=2 uses each own sample in several pairs .* {told}"):
        replace(
            config, method=MethodConfig.variants()[method](), data=data, reference_samples=samples,
            loop=replace(config.loop, **changes),
        )  # fmt: skip


def test_a_number_that_does_not_come_out_even_is_refused(workshop, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"reference_samples\.uses=5 does not divide the 12 pairs .*updates_per_iteration=3 x loop\.batch_size=4"
        r".*; use 4, or make loop\.updates_per_iteration a multiple of 5",
    ):
        used(workshop, tmp_path / "run", 5)
    with pytest.raises(ValueError, match=r"reference_samples\.uses=0 must be at least 1"):
        used(workshop, tmp_path / "run", 0)
