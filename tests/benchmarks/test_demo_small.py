"""The whole demo in small: the real commands on real files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.experiments.toy.arms import ROOT
from benchmarks.experiments.toy.demo import MARKER
from benchmarks.experiments.toy.demo_arms import ARMS, DemoPaths

SMALL = """
import sys
from dataclasses import replace
from pathlib import Path
from benchmarks.experiments.toy.demo import Demo, run_demo
from benchmarks.experiments.toy.demo_arms import ARMS, RECIPES
if __name__ == "__main__":
    small = {"updates": 4, "batch": 2, "warmup": 1, "training": 6, "prompts": 4, "seeds": 2, "continued": 6}
    small["points"] = 2
    recipes = {sys.argv[2]: replace(RECIPES[sys.argv[2]], arms=tuple(ARMS), **small)}
    run_demo(Path(sys.argv[1]), Demo((sys.argv[2],), 0, recipes), resume=len(sys.argv) > 3)
"""


def small_demo(out: Path, modality: str, *resume: str) -> dict:
    """Two updates per iteration, four prompts; in a process of its own, as a user has it. Returns its report."""
    command = [sys.executable, "-c", SMALL, str(out), modality, *resume]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["image", "video"])
def test_the_whole_demo_in_small(tmp_path, modality):
    """The real commands on real files; then again with one part missing, resumed."""
    out = tmp_path / "demo"
    report = small_demo(out, modality)
    assert set(report[modality]) == set(ARMS)
    assert all(len(arm["curve"]) == 3 for name, arm in report[modality].items() if name != "base")
    assert (out / "index.html").stat().st_size > 10_000

    marker = json.loads((out / MARKER).read_text(encoding="utf-8"))
    del marker["done"][f"{modality}/score/seppo"]
    (out / MARKER).write_text(json.dumps(marker), encoding="utf-8")
    removed = sorted((DemoPaths(out).scores(modality) / "seppo").glob("update-*"))[-1]
    removed.unlink()
    again = small_demo(out, modality, "resume")
    assert removed.exists()
    assert again[modality] == report[modality]
