"""Every method through the real commands: its kind of data, its reference, resumed runs, and batches cut otherwise."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seppo_core.config.loader import resolved_yaml
from seppo_core.config.method import MethodConfig
from seppo_core.config.methods.ditto import DittoConfig
from seppo_core.config.methods.dpo import DpoConfig
from seppo_core.config.methods.dro import DroConfig
from seppo_core.config.methods.dspo import DspoConfig
from seppo_core.config.methods.gt_pair import GtPairConfig
from seppo_core.config.methods.kto import KtoConfig
from seppo_core.config.methods.mapo import MapoConfig
from seppo_core.config.methods.nft import NftConfig
from seppo_core.config.methods.poly_dpo import PolyDpoConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.methods.sft import SftConfig
from seppo_core.config.methods.spin import SpinConfig
from seppo_core.config.methods.sspo import SspoConfig
from seppo_core.run.checkpoint import CheckpointFolder, load_policy
from seppo_core.run.history import read_metrics
from seppo_core.run.status import read_status, status_text
from seppo_image import commands
from tests.dying import killed_before_update
from tests.training.forms import config_of, data_of
from tests.training.test_processes import trained

VARIANTS = {
    "seppo": SeppoConfig(beta=50),
    "seppo, averaged anchor": SeppoConfig(beta=50, anchor_draws=2),
    "seppo, one sign per batch": SeppoConfig(beta=50, anchor_scope="batch"),
    "seppo, guarded, with sft": SeppoConfig(beta=50, guard=0.1, noise="shared", sft_weight=0.5),
    "seppo, forgetful": SeppoConfig(beta=50, pool_window=1),
    "sspo": SspoConfig(beta=50),
    "sft": SftConfig(),
    "dpo": DpoConfig(beta=50),
    "dpo, guarded": DpoConfig(beta=50, guard=0.0, noise="shared"),
    "spin": SpinConfig(beta=50),
    "ditto": DittoConfig(beta=50),
    "gt_pair": GtPairConfig(beta=50),
    "dro": DroConfig(),
    "poly_dpo": PolyDpoConfig(beta=50),
    "dspo": DspoConfig(beta=5),
    "mapo": MapoConfig(),
    "mapo, guarded": MapoConfig(guard=0.1, noise="shared"),
    "kto": KtoConfig(beta=50),
    "nft": NftConfig(),
}


def final(run: Path) -> dict[str, torch.Tensor]:
    return load_policy(CheckpointFolder(run / "checkpoints").latest())


QUICK = ("seppo", "dpo", "mapo", "kto")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_runs_and_resumes_bit_for_bit(workshop, caches, tmp_path, name):
    method = VARIANTS[name]
    commands.train(config_of(workshop, caches, tmp_path / "undisturbed", method))
    config = config_of(workshop, caches, tmp_path / "run", method)
    with killed_before_update(4):
        commands.train(config)
    commands.train(config)
    undisturbed, resumed = final(tmp_path / "undisturbed"), final(tmp_path / "run")
    assert all(torch.equal(resumed[key], undisturbed[key]) for key in undisturbed)
    lines = read_metrics(tmp_path / "run")
    assert [line["update"] for line in lines] == [1, 2, 3, 4, 5, 6]
    spec, pool = method.spec, sorted((tmp_path / "run" / "pool").glob("*"))
    assert all(("reference" in line) == spec.uses_reference for line in lines)
    # entries that no draw can ever ask for are not kept; a pool that forgets keeps what a kept checkpoint still needs
    only_first = {method.strategy, method.sampled_from} == {"initial"}
    assert len(pool) == (0 if not spec.uses_reference else 1 if only_first else 2)
    assert all(line.get("remember") == method.pool_window for line in lines)
    told = status_text(read_status(tmp_path / "run"))
    assert ("forgets all but the newest 1 snapshots" in told) == (method.pool_window == 1)
    if method.strategy == "latest":
        assert [line["reference"] for line in lines] == [0, 0, 0, 1, 1, 1]
    if method.sampled_from != method.strategy:
        assert [(line["reference"], line["sampler"]) for line in lines] == [(0, 0)] * 3 + [(0, 1)] * 3


@pytest.mark.parametrize(
    "name",
    [
        "seppo, one sign per batch",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("seppo, averaged anchor", "kto", "dpo", "mapo")),
    ],
)
def test_accumulation_changes_nothing(workshop, caches, tmp_path, name):
    """What is decided over the whole batch is decided over the whole batch, however it is cut."""
    for micro in (1, 4):
        commands.train(config_of(workshop, caches, tmp_path / str(micro), VARIANTS[name], "full", micro))
    for a, b in zip(*(read_metrics(tmp_path / str(micro)) for micro in (1, 4)), strict=True):
        for key in ("loss", "grad_norm", "margin"):
            # each update multiplies the rounding of those before; margins go up to 4 and pass through zero
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=2e-3 if key == "margin" else 1e-4), (a["update"], key)
        for key in ("share_s_plus", "share_desirable"):
            assert a.get(key) == b.get(key)
        if "one sign" in name:
            assert a["share_s_plus"] in (0, 1)


@pytest.mark.parametrize("name", ["kto", pytest.param("seppo, one sign per batch", marks=pytest.mark.slow)])
def test_the_whole_batch_is_that_of_all_processes(workshop, caches, tmp_path, name):
    """Two processes with a micro-batch each against one that accumulates: one mean gain, one sign, over all of it."""
    config = config_of(workshop, caches, tmp_path / "two", VARIANTS[name], "full")
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config))
    status, told = trained(path, 2)
    assert status == 0, told[-3000:]
    commands.train(replace(config, run=str(tmp_path / "one")))
    two, one = read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one")
    assert len(two) == len(one) == 6
    for a, b in zip(two, one, strict=True):
        for key in ("loss", "grad_norm", "margin"):
            # each update multiplies the rounding of those before; margins go up to 4 and pass through zero
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=2e-3 if key == "margin" else 1e-4), (a["update"], key)
        for key in ("share_s_plus", "share_desirable"):
            assert a.get(key) == b.get(key)
        if name == "kto":
            assert a["baseline"] == pytest.approx(b["baseline"], rel=1e-3, abs=1e-4)


def test_every_recipe_has_a_run():
    assert {method.name for method in VARIANTS.values()} == set(MethodConfig.variants())


@pytest.mark.parametrize(("method", "held"), [("dpo", "winners"), ("kto", "pairs"), ("seppo", "labels")])
def test_the_wrong_kind_of_data_is_refused_at_start(workshop, caches, tmp_path, method, held):
    config = config_of(workshop, caches, tmp_path / "run", MethodConfig.variants()[method]())
    config = replace(config, data=data_of(config, workshop.source, caches[held], held))
    needed = config.method.spec.supervision
    with pytest.raises(ValueError, match=f"method.name={method} learns from {needed}, but .* holds {held}"):
        commands.train(config)
    assert not (tmp_path / "run").exists()


def test_pairs_have_winners(workshop, caches, tmp_path):
    config = config_of(workshop, caches, tmp_path / "run", VARIANTS["sft"])
    commands.train(replace(config, data=data_of(config, workshop.source, caches["pairs"], "pairs")))
    assert final(tmp_path / "run")
