"""Held-out items: never trained on, measured on draws that never change, the same after a resume."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from seppo_core.cache.reader import WinnerCache
from seppo_core.io import purposes
from seppo_core.io.rng import keyed_stream
from seppo_core.models.tuning import load_trainable_state
from seppo_core.run.checkpoint import load_policy
from seppo_core.run.history import read_metrics
from seppo_core.run.status import read_status, status_text
from seppo_core.training.batches import WinnerOrder, split_items
from seppo_core.training.setup import build_model
from seppo_core.training.validation import Validation
from seppo_image import commands
from tests.training.test_resume import assert_same_run


def held_out_config(workshop, run, method: str = "seppo", **data):
    config = workshop.config(run, "full", method)
    loop = replace(config.loop, validate_every=4, validate_items=2)
    return replace(config, loop=loop, data=replace(config.data, **(data or {"validation": 0.3})))


def test_held_out_items_are_never_trained_on():
    trained, held = split_items(40, 0.1, seed=3)
    assert len(held) == 4 and sorted([*trained.tolist(), *held.tolist()]) == list(range(40))
    order = WinnerOrder(36, 3, items=trained)
    assert sorted(order.item(position) for position in range(36)) == trained.tolist()
    assert not torch.equal(held, split_items(40, 0.1, seed=4)[1])
    with pytest.raises(ValueError, match=r"data\.validation=0\.99 holds out 2 of 2 items"):
        split_items(2, 0.99, seed=0)


@pytest.fixture(scope="module")
def run(workshop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation") / "run"
    commands.train(held_out_config(workshop, folder))
    return folder


def test_what_is_logged_is_the_error_of_the_weights_on_the_documented_draws(workshop, run):
    config = replace(held_out_config(workshop, run), draws=2)
    lines = read_metrics(run)
    assert [line["update"] for line in lines if "held_out_error" in line] == [4, 6]
    adapter = commands.load(config)
    build_model(config, adapter)
    cache = WinnerCache(workshop.cache)
    items = split_items(len(cache), 0.3, config.seed)[1].tolist()[:2]
    parts = keyed_stream(2, config.seed, purposes.VALIDATION_TIMES).permutation(2).tolist()

    def error() -> list[float]:
        found = []
        for place, item in enumerate(items):
            stream = keyed_stream(2, config.seed, purposes.VALIDATION, place)
            t = adapter.path.timesteps((parts[place] + stream.uniform(1)) / 2)
            noise = stream.normal((1, *cache.latent_shape))
            x_0 = cache.posterior([item], [False]).sample(stream.normal((1, *cache.latent_shape)))
            x_t = adapter.path.add_noise(x_0, noise, t)
            with torch.no_grad():
                found.append(adapter.predict(adapter.denoiser, x_t, t, cache.condition([item], [False])) - noise)
        return [one.square().mean().item() for one in found]

    start = error()
    load_trainable_state(adapter.denoiser, load_policy(run / "checkpoints" / "update-000006"))
    now = error()
    assert lines[-1]["held_out_start"] == pytest.approx(sum(start) / 2, rel=1e-5)
    assert lines[-1]["held_out_error"] == pytest.approx(sum(now) / 2, rel=1e-5)
    assert lines[-1]["held_out_accuracy"] == sum(a < b for a, b in zip(now, start, strict=True)) / 2
    margin = 50 * (sum(start) - sum(now)) / 2
    assert lines[-1]["held_out_margin"] == pytest.approx(margin, rel=1e-3)
    assert f"winner error {lines[-1]['held_out_error']:.4g} after update 6" in status_text(read_status(run))


def test_a_resume_measures_the_same(workshop, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "update-000006")
    commands.train(held_out_config(workshop, tmp_path / "run"))
    assert_same_run(tmp_path / "run", run)


def test_a_cache_of_its_own_moves_no_weight(workshop, whole_run, tmp_path):
    """The same run as without; a method without a reference measures its start whatever is held out."""
    shutil.copytree(whole_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "update-000006")
    shutil.copytree(workshop.cache, tmp_path / "other")
    commands.train(held_out_config(workshop, tmp_path / "run", validation_cache=str(tmp_path / "other")))
    weights, others = (load_policy(path / "checkpoints" / "update-000006") for path in (tmp_path / "run", whole_run))
    assert all(torch.equal(weights[name], others[name]) for name in others)
    assert "held_out_error" in read_metrics(tmp_path / "run")[-1]


def measured(form: str, start: list[list[float]], now: list[list[float]], **options) -> dict[str, float]:
    views = {"pairs": ("winner", "loser"), "labels": ("item",), "winners": ("winner",)}[form]
    cache = SimpleNamespace(
        form=form, manifest=SimpleNamespace(views=views), labels=lambda _: torch.tensor([1, 1, 0, 0]).bool()
    )
    validation = Validation(
        cache=cache, items=[0, 1, 2, 3], adapter=None, noise_path=None, layout=None, seed=0, chunk=1, every=1, **options
    )
    errors = iter([torch.tensor(start).double(), torch.tensor(now).double()])
    validation._errors = lambda: next(errors)
    validation.begin()
    return validation.metrics()


def test_what_counts_as_right_by_hand():
    pairs = measured("pairs", [[1, 1, 1, 1], [2, 2, 2, 2]], [[0.5, 1.5, 0.5, 1], [2, 2, 1, 2]], beta=10.0)
    # winners' gains .5, -.5, .5, 0; losers' 0, 0, 1, 0
    assert pairs["held_out_error"] == 0.875 and pairs["held_out_accuracy"] == (1 + 0 + 0 + 0.5) / 4
    assert pairs["held_out_margin"] == pytest.approx(10 * (0.5 - 0.5 - 0.5 + 0) / 4)
    labels = measured("labels", [[1, 1, 1, 1]], [[0.5, 1.5, 0.5, 1.5]])
    assert labels["held_out_error"] == labels["held_out_start"] == 1 and labels["held_out_accuracy"] == 0.5
    assert "held_out_margin" not in labels
    # 0.5 and -0.5: a standard deviation of 1/sqrt(2), for two
    assert labels["held_out_noise"] == pytest.approx(0.5)
    winners = measured("winners", [[1, 1, 1, 1]], [[0.5, 0.5, 0.5, 1.5]])
    assert winners["held_out_accuracy"] == 0.75
