"""`python -m benchmarks cheaper`: variants of the comparison's own cells, and what is made of them."""

import json

import pytest

from benchmarks.__main__ import COMMANDS
from benchmarks.experiments.toy import cheaper
from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.cheaper import AS_IT_IS, SETTINGS, VARIANTS, cell_of, write_result
from benchmarks.experiments.toy.folder import Paths
from benchmarks.experiments.toy.plan import Plan, config_path
from benchmarks.experiments.toy.regimes import SCALES
from seppo_core.cli.main import parse
from seppo_core.config.loader import load_config
from seppo_image.config import ImageConfig
from tests.benchmarks.toy_cells import write_cell

PLAN = Plan("image", SCALES["image"]["own"])


def test_a_variant_is_the_comparison_s_cell_with_one_option_more():
    assert COMMANDS["cheaper"].module == cheaper.__name__
    for arm, variants in VARIANTS.items():
        own = PLAN.cell("own", arm, SETTINGS[arm], 1, "final")
        path = ROOT / config_path("image", ARMS[arm])
        plain = load_config(path, ImageConfig)
        for name, options in variants.items():
            cell = cell_of(PLAN, arm, name, 1)
            assert cell.options == own.options + options and cell.mark == own.mark
            assert (cell.key == own.key) == (name == AS_IT_IS and own.anchor is None)
            changed = parse(["train", str(path), *options], "seppo-image", ImageConfig).config
            assert (changed == plain) == (name == AS_IT_IS)


def test_differences_are_paired_and_the_comparison_s_own_runs_count(tmp_path, capsys):
    paths = Paths(tmp_path / "out", tmp_path / "store")
    for seed in (1, 2, 3):
        # finished by the comparison, with its anchor
        write_cell(paths, PLAN.cell("own", "indicator_initial", SETTINGS["indicator_initial"], seed, "final"), 0.8)
    for seed in (1, 2):
        write_cell(paths, cell_of(PLAN, "indicator_initial", "draws 1", seed), 0.7, seconds=4.0)
    write_result(PLAN, paths, tmp_path / "result.json")
    found = json.loads((tmp_path / "result.json").read_text())
    whole, fewer = found["rows"]
    assert (whole["variant"], whole["seeds"], whole["over_as_it_is"]) == (AS_IT_IS, [1, 2, 3], None)
    assert whole["mean"][0] == pytest.approx(0.82)
    assert (fewer["variant"], fewer["shared"], fewer["seconds"]) == ("draws 1", [1, 2], 4.0)
    # difficulty and luck are the same in both, so that nothing is left of them
    assert fewer["over_as_it_is"] == pytest.approx([-0.1, -0.1, -0.1], abs=1e-6)
    assert "draws 1" in capsys.readouterr().out
