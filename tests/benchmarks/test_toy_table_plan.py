"""What the toy table is made of: its data, its arms and cells."""

import json
from dataclasses import replace

import pytest
import yaml

from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.data import training, validation, write_data
from benchmarks.experiments.toy.plan import Cell, Plan, arm_config
from benchmarks.experiments.toy.regimes import REGIMES, SCALES
from benchmarks.experiments.toy.task.mixture import score_samples
from benchmarks.experiments.toy.task.sets import read_set
from benchmarks.experiments.toy.text import untuned
from seppo_core.config.methods.dro import DroConfig
from seppo_core.config.methods.mapo import MapoConfig
from seppo_core.config.methods.nft import NftConfig
from seppo_core.toy.captions import held_out, train_captions
from tests.benchmarks.toy_cells import small_plan


@pytest.mark.parametrize("modality", ["image", "video"])
def test_validation_training_and_test_share_no_caption(modality):
    parts = [set(validation(modality)), set(training(modality)), set(held_out(modality))]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert parts[0] | parts[1] == set(train_captions(modality))


def test_pairs_and_labels_are_the_winners_and_worse_draws(tmp_path):
    found = write_data(tmp_path, "image", 24, seed=1)
    winners, captions = read_set(tmp_path / "winners")
    losers, _ = read_set(tmp_path / "losers")
    # 8-bit files: a tie may turn by rounding
    assert (score_samples("image", winners, captions) >= score_samples("image", losers, captions) - 0.02).all()
    assert found["scores"]["losers"] < found["scores"]["weak"] < found["scores"]["winners"]
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    labels = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in pairs] == captions
    assert {row["file_name"] for row in labels if row["label"]} == {row["file_name"] for row in pairs}
    assert {row["file_name"] for row in labels if not row["label"]} == {row["loser_file_name"] for row in pairs}
    assert all((tmp_path / row["file_name"]).is_file() for row in labels)
    assert not set(captions) & set(validation("image"))


def test_data_are_written_once_and_others_are_refused(tmp_path):
    write_data(tmp_path, "image", 8, seed=0)
    before = (tmp_path / "pairs.jsonl").stat().st_mtime_ns
    write_data(tmp_path, "image", 8, seed=0)
    assert (tmp_path / "pairs.jsonl").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="name another --out"):
        write_data(tmp_path, "image", 8, seed=1)
    # begun and broken off: done anew
    (tmp_path / "data.json").unlink()
    write_data(tmp_path, "image", 8, seed=1)


# the plan


@pytest.mark.parametrize("modality", ["image", "video"])
@pytest.mark.parametrize("scale", ["quick", pytest.param("full", marks=pytest.mark.slow)])
def test_every_arm_has_cells_of_its_own(modality, scale):
    plan = Plan(modality, SCALES[modality][scale], regimes=tuple(REGIMES))
    found: list[Cell] = plan.bases()
    for regime in plan.regimes:
        for arm in plan.arms(regime):
            found += [*plan.tuning(regime, arm), *plan.final(regime, arm, (1e-3, None, None))]
    assert len({cell.key for cell in found}) == len(found) == len({cell.name for cell in found})
    assert {cell.seed for cell in found if cell.role == "tune"}.isdisjoint(
        cell.seed for cell in found if cell.role == "final" and cell.config
    )


def test_image_arms_cover_every_method_from_one_base_and_batch():
    plan = Plan("image", SCALES["image"]["quick"], regimes=("mixture",))
    assert ["base", *plan.arms("mixture")] == [name for name, arm in ARMS.items() if not arm.drawn]
    configs = {arm: arm_config("image", ARMS[arm]) for arm in plan.arms("mixture")}
    assert {config.method.name for config in configs.values()} == {
        "seppo", "sspo", "sft", "dpo", "spin", "ditto", "mapo", "kto", "gt_pair", "dro", "poly_dpo", "dspo", "nft",
    }  # fmt: skip
    assert len({(config.model, config.preview, config.reference_samples.steps) for config in configs.values()
                if config.method.spec.counterpart == "generated"}) == 1  # fmt: skip
    assert {arm: configs[arm].data.supervision for arm in ("dpo", "dpo_guard", "mapo", "kto")} == {
        "dpo": "pairs", "dpo_guard": "pairs", "mapo": "pairs", "kto": "labels",
    }  # fmt: skip
    assert all(configs[arm].data.supervision == ARMS[arm].data for arm in ("dpo", "mapo", "kto"))


@pytest.mark.parametrize("regime", ["mixture", "long"])
def test_matched_sft_costs_as_many_passes_as_seppo(regime):
    plan = Plan("image", SCALES["image"]["quick"])
    arms = ("sft_matched", "seppo", "sft")
    matched, seppo, sft = (plan.cell(regime, arm, (1e-3, None, None), 1, "final") for arm in arms)
    assert abs(matched.passes / seppo.passes - 1) < 0.01 and sft.passes < seppo.passes / 5
    # 8 steps to generate, 2 of the reference, 2 of the policy with a backward pass that counts as two
    assert seppo.passes == 60 * 16 * (8 + 2 + 2 * 3) * (3 if regime == "long" else 1)
    assert sft.passes == 60 * 16 * 3 * (3 if regime == "long" else 1)


def test_one_scale_of_the_guard_for_a_batch_costs_the_policy_another_pass():
    plan = small_plan()
    one, batch = (plan.cell("mixture", arm, (1e-3, None, None), 1, "final") for arm in ("dpo_guard", "dpo_guard_batch"))
    # 2 of the reference, 2 of the policy with a backward pass that counts as two; without a gradient 2 more
    assert (one.passes, batch.passes) == (60 * 16 * (2 + 2 * 3), 60 * 16 * (2 + 2 * 3 + 2))
    assert [arm_config("image", ARMS[name]).method.guard_scope for name in ("dpo_guard", "dpo_guard_batch")] == [
        "sample", "batch",
    ]  # fmt: skip


def test_what_decides_a_cell_changes_its_key_and_more_seeds_do_not():
    plan = small_plan()
    at = (1e-3, None, None)
    cell = plan.cell("mixture", "seppo", at, 1, "final")
    assert small_plan(seeds=9, only=("sft",)).cell("mixture", "seppo", at, 1, "final").key == cell.key
    for other in (
        plan.cell("mixture", "seppo", (3e-3, None, None), 1, "final"), plan.cell("mixture", "seppo", at, 2, "final"),
        plan.cell("mixture", "seppo", (1e-3, 5.0, None), 1, "final"), plan.cell("own", "seppo", at, 1, "final"),
        plan.cell("few", "seppo", at, 1, "final"), plan.cell("strong", "seppo", at, 1, "final"),
        plan.cell("mixture", "seppo_latest", at, 1, "final"),
        Plan("image", replace(plan.scale, size=32)).cell("mixture", "seppo", at, 1, "final"),
        small_plan(data_seed=1).cell("mixture", "seppo", at, 1, "final"),
    ):  # fmt: skip
        assert other.key != cell.key


def test_clips_have_no_strong_base():
    assert Plan("video", SCALES["video"]["quick"], regimes=tuple(REGIMES)).regimes == (
        "own", "mixture", "few", "weak", "long",
    )  # fmt: skip


def test_constants_that_are_not_tuned_are_told_as_the_configs_have_them():
    plan = Plan("image", SCALES["image"]["own"])
    defaults, _, configs = untuned(plan).partition("; ")
    held = (("beta", MapoConfig().beta, "MaPO, pairs"), ("margin", DroConfig().margin, "Diffusion-DRO"),
            ("beta", NftConfig().beta, "DiffusionNFT, online"))  # fmt: skip
    for name, value, arm in held:
        assert f"`{name}` {value:g} ({arm})" in defaults
    written = yaml.safe_load((ROOT / "configs/toy/image_seppo_sft.yaml").read_text(encoding="utf-8"))["method"]
    assert f"`sft_weight` {written['sft_weight']} (SePPO + SFT)" in configs and "`guard` 0.5 (DPO, guarded)" in configs
    # what is tuned is not among them
    assert "DPO, pairs + winner term" not in defaults + configs and "(SePPO)" not in defaults + configs
    assert "beta among them" in untuned(small_plan())
