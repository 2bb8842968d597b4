"""`python -m tools.beta_scale [FOLDER]`: how large the sigmoid's argument was at every beta, and the score it led to.

Reads the tuning runs that `python -m benchmarks toy --tier B` left in FOLDER (runs/toy): one training seed, scores on
validation prompts, each beta at the best rate that it was tried with. Writes benchmarks/results/beta_scale.json and a
table of docs/which_method.md.
"""

import sys
from pathlib import Path
from statistics import mean

from benchmarks.experiments.toy.arms import ARMS, ROOT
from benchmarks.experiments.toy.folder import Paths, read_result, read_spec
from benchmarks.experiments.toy.publish import PAGE, between
from seppo_core.io.atomic import save_json, save_text
from seppo_core.report.provenance import provenance
from seppo_core.report.text_table import markdown_table
from seppo_core.run.history import read_metrics

SHOWN = ("seppo_initial", "seppo_latest", "sspo", "spin", "dpo")
"""Arms with the sigmoid of a contrast: first those with an anchor."""
RESULT = ROOT / "benchmarks" / "results" / "beta_scale.json"
HEADINGS = ("arm", "beta", "rate", "R, validation", "beta x gap", "margin", "winners' gap")


def runs(folder: Path) -> list[dict]:
    """One line for every tuning run of SHOWN that is there; metrics are means over its last third."""
    paths, found = Paths(folder), []
    for spec in sorted((folder / "cells" / "image").glob("own-*/spec.json")):
        cell = read_spec(spec.parent)
        result, run = read_result(paths, cell), spec.parent / "run"
        if cell.arm not in SHOWN or cell.role != "tune" or result is None or not run.is_dir():
            continue
        metrics = read_metrics(run)
        late = metrics[-len(metrics) // 3 :]
        found.append({
            "arm": cell.arm, "beta": cell.beta, "rate": cell.rate, "score": round(result.mean, 4),
            "argument": round(cell.beta * mean(line["gap_size"] for line in late), 4),
            "margin": round(mean(line["margin"] for line in late), 4),
            "winner_gap": round(mean(line["winner_gap"] for line in late), 4),
        })  # fmt: skip
    return found


def best(found: list[dict]) -> list[dict]:
    """Of the runs of an arm at one beta the one with the highest score, arms as SHOWN and betas by size."""
    kept: dict[tuple[str, float], dict] = {}
    for line in found:
        key = line["arm"], line["beta"]
        if key not in kept or line["score"] > kept[key]["score"]:
            kept[key] = line
    return sorted(kept.values(), key=lambda line: (SHOWN.index(line["arm"]), line["beta"]))


def table(lines: list[dict]) -> list[str]:
    rows = []
    for line in lines:
        repeated = rows and rows[-1][-1] == line["arm"]
        rows.append([
            "" if repeated else ARMS[line["arm"]].name, f"{line['beta']:g}", f"{line['rate']:g}",
            f"{line['score']:.3f}"[1:], f"{line['argument']:.2g}", f"{line['margin']:+.2g}",
            f"{line['winner_gap']:+.3f}", line["arm"],
        ])  # fmt: skip
    return markdown_table(HEADINGS, [row[:-1] for row in rows])


def main(folder: Path) -> int:
    """Exit status 0; 1 if no run is there."""
    found = runs(folder)
    if not found:
        print(f"{folder} holds no tuning run; `python -m benchmarks toy --tier B --afresh --out {folder}` makes them")
        return 1
    origin = {key: value for key, value in provenance().items() if key in ("commit", "started", "torch", "processor")}
    save_json(RESULT, {"kind": "seppo-toy-beta", "format": 1, "runs": found, "provenance": origin})
    lines = table(best(found))
    print("\n".join(lines))
    save_text(PAGE, between(PAGE.read_text(encoding="utf-8"), "beta-scale", "\n".join(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "toy"))
