"""What `python -m tools.beta_scale` reads from tuning runs."""

import json

from benchmarks.experiments.toy.folder import Paths
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.regimes import SCALES
from tests.benchmarks.toy_cells import write_cell
from tools.beta_scale import best, main, runs, table

PLAN = Plan("image", SCALES["image"]["own"])


def write_run(paths: Paths, arm: str, rate: float, beta: float, score: float, gaps: list[float]) -> None:
    cell = PLAN.cell("own", arm, (rate, beta, None), 0, "tune")
    write_cell(paths, cell, score)
    lines = [{"update": n, "gap_size": gap, "margin": 2 * gap, "winner_gap": -gap} for n, gap in enumerate(gaps, 1)]
    (paths.cell(cell) / "run").mkdir()
    (paths.cell(cell) / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_each_beta_stands_at_its_best_rate_with_means_of_the_last_third(tmp_path, capsys):
    paths = Paths(tmp_path)
    write_run(paths, "dpo", 1e-4, 100.0, 0.6, [9.0, 9.0, 9.0, 9.0, 0.02, 0.04])
    write_run(paths, "dpo", 3e-4, 100.0, 0.5, [9.0] * 6)
    write_run(paths, "dpo", 3e-4, 10.0, 0.4, [0.1] * 6)
    write_run(paths, "seppo_initial", 3e-4, 10.0, 0.7, [0.01] * 6)
    write_run(paths, "dspo", 3e-4, 0.05, 0.9, [0.01] * 6)
    assert table(best(runs(tmp_path)))[2:] == [
        "| SePPO, initial reference | 10 | 0.0003 | .700 | 0.1 | +0.02 | -0.010 |",
        "| DPO, pairs | 10 | 0.0003 | .400 | 1 | +0.2 | -0.100 |",
        "|  | 100 | 0.0001 | .600 | 3 | +0.06 | -0.030 |",
    ]
    assert main(tmp_path / "nothing") == 1 and "benchmarks toy --tier B --afresh" in capsys.readouterr().out
