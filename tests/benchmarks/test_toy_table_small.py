"""The toy table in small: the real commands on real files, and their cost counted in the denoiser itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from benchmarks.experiments.toy import cell as cell_module
from benchmarks.experiments.toy.arms import ARMS, BACKWARD, ROOT, judged_per_item, passes_per_item
from benchmarks.experiments.toy.cell import main as cell_main
from benchmarks.experiments.toy.data import write_data
from benchmarks.experiments.toy.folder import Paths, read_result, write_spec
from benchmarks.experiments.toy.plan import Plan, arm_config
from benchmarks.experiments.toy.regimes import Scale
from seppo_core.config.loader import load_config
from seppo_core.methods.reference import Reference
from seppo_core.training import trainer
from seppo_core.training.validation import Validation
from seppo_image.__main__ import main as image_main
from seppo_image.config import ImageConfig

SMALL = """
import sys
from pathlib import Path
from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.processes import Launcher
from benchmarks.experiments.toy.main import write_report
from benchmarks.experiments.toy.folder import Paths, read_result, write_spec
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.regimes import Scale
from benchmarks.experiments.toy.sweep import PRELOAD, sweep
if __name__ == "__main__":
    scale = Scale(8, 2, 2, 2, 1, (1e-3,), 0, 1, 1, prompts=3, anchor_items=4, anchor_draws=2)
    plan, out = Plan(sys.argv[2], scale, seeds=int(sys.argv[3]), only=tuple(sys.argv[4:])), Path(sys.argv[1])
    done = sweep(plan, Paths(out), Launcher(ROOT, PRELOAD), jobs=2)
    sys.exit(write_report(plan, Paths(out), out, done, 1.0))
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Paths:
    """Eight of everything, encoded."""
    paths = Paths(tmp_path_factory.mktemp("toy"))
    write_data(paths.data("image"), "image", 8, seed=0)
    first = {about.data: about.config for about in reversed(ARMS.values()) if about.config}
    for kind, name in first.items():
        config = f"configs/toy/image_{name}.yaml"
        options = ("--data.source", str(paths.source("image", kind)), "--data.cache", str(paths.cache("image", kind)))
        assert image_main(["prepare", str(ROOT / config), *options]) == 0
    return paths


@pytest.mark.slow
@pytest.mark.parametrize(
    "arm", [arm for arm, about in ARMS.items() if about.config and not about.matched and not about.drawn]
)
def test_cost_is_what_the_denoiser_sees(arm, prepared, tmp_path, monkeypatch):
    """Passes of policy and reference, counted sample by sample while a run trains."""
    counted = 0
    forward = UNet2DConditionModel.forward

    def counting(self, sample, *args, **kwargs):
        nonlocal counted
        counted += len(sample) * (1 + BACKWARD if torch.is_grad_enabled() else 1)
        return forward(self, sample, *args, **kwargs)

    begin = Validation.begin

    def uncounted(self):
        # a method without a reference measures its start once, whatever the run's length: no cost of training
        nonlocal counted
        before, found = counted, begin(self)
        counted = before
        return found

    monkeypatch.setattr(UNet2DConditionModel, "forward", counting)
    monkeypatch.setattr(Validation, "begin", uncounted)
    # looked at a few times in a run of any length
    monkeypatch.setattr(trainer, "check_parted", lambda *arguments: None)
    # a reference that is known to equal the policy saves the anchor's passes, which the plan does not count on
    monkeypatch.setattr(Reference, "track", lambda self, optimizer: None)
    monkeypatch.chdir(ROOT)
    plan = Plan("image", Scale(8, 2, 2, 2, 1))
    cell = plan.cell("mixture", arm, (1e-3, None, None), 1, "final")
    paths = ("--data.source", str(prepared.source("image", cell.data)),
              "--data.cache", str(prepared.cache("image", cell.data)))  # fmt: skip
    assert image_main(["train", cell.config, "--run", str(tmp_path / "run"), *paths, *cell.options]) == 0
    config = arm_config("image", ARMS[arm])
    assert (
        counted
        == cell.passes
        == 2 * 2 * 2 * passes_per_item(config.method, config.reference_samples, judged_per_item(config))
    )


@pytest.mark.slow
def test_a_strong_base_is_what_training_and_judging_start_from(prepared, monkeypatch):
    monkeypatch.setattr(
        cell_module,
        "STRONG",
        ("--loop.updates_per_iteration", "2", "--loop.iterations", "1", "--optimizer.warmup_updates", "1"),
    )
    monkeypatch.chdir(ROOT)
    assert cell_main(["strong", str(prepared.out), "image"]) == 0
    assert [path.name for path in prepared.base("image", "strong").parent.iterdir()] == ["strong"]
    plan = Plan("image", Scale(8, 2, 2, 2, 1, noises=1, prompts=3, anchor_items=4), regimes=("strong",))
    base, trained = plan.base("strong"), plan.cell("strong", "seppo", (1e-3, None, None), 1, "final")
    scores = {}
    for cell in (plan.base(), base, trained):
        write_spec(prepared.cell(cell), cell)
        assert cell_main([str(prepared.out), str(prepared.cell(cell))]) == 0
        scores[cell.label] = read_result(prepared, cell).scores
    assert len({values.tobytes() for values in scores.values()}) == 3
    began = load_config(prepared.cell(trained) / "run/config.yaml", ImageConfig)
    assert began.model.base == str(prepared.base("image", "strong"))


ARMS_IN_SMALL = ("sft_matched", "seppo", "dpo", "kto")


def small_table(out: Path, modality: str = "image", seeds: int = 2, arms: tuple[str, ...] = ARMS_IN_SMALL) -> dict:
    """In a process of its own, as a user has it; the report."""
    command = [sys.executable, "-c", SMALL, str(out), modality, str(seeds), *arms]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_whole_table_in_small(tmp_path):
    """Winners, pairs and labels through the real commands; called again, and again with one cell missing."""
    out = tmp_path / "toy"
    report = small_table(out)
    rows = {row["arm"]: row for row in report["rows"]}
    for arm in ARMS_IN_SMALL:
        assert rows[arm]["seeds"] == [1, 2] and rows[arm]["mean"] is not None and not rows[arm]["failures"], arm
        assert rows[arm]["seconds"] > 0 and len(rows[arm]["curve"]) == 2
    assert rows["seppo"]["anchor"]["draws"] + 2 * rows["seppo"]["anchor"]["tied"] == 16
    assert rows["dpo"]["anchor"] is None and not report["rows"][1]["seeds"], "continued was not asked for"
    times = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/*/cell.json")}
    gone = next(path for path in times if "mixture-dpo" in str(path) and "seed2" in str(path))
    gone.unlink()
    again = small_table(out)
    assert again["rows"] != [] and {row["arm"]: row["mean"] for row in again["rows"]} == {
        arm: row["mean"] for arm, row in rows.items()
    }, "a cell that is done anew comes out the same"
    assert all(path.stat().st_mtime_ns == when for path, when in times.items() if path != gone)


@pytest.mark.slow
def test_clips_in_small(tmp_path):
    """Clips go the same way."""
    report = small_table(tmp_path / "toy", "video", 1, ("seppo", "kto"))
    rows = {row["arm"]: row for row in report["rows"]}
    assert rows["seppo"]["anchor"] is not None
    assert all(rows[arm]["seeds"] == [1] and rows[arm]["mean"] is not None for arm in ("seppo", "kto"))
