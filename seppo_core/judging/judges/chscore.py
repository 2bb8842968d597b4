"""CHScore of ChronoMagic-Bench (Yuan et al. 2024): coherence, from points that CoTracker loses.

Runs the benchmark's own CHScore/step0-get_CHScore.py; what it computes changed in September 2024, so that its hash is
part of the fingerprint. A clip in which no point is lost scores 0. Recipe: docs/judges.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from seppo_core.judging.judges.serve import describe, parser, serve
from seppo_core.judging.judges.upstream import module, short_hash


def main() -> int:
    """The judge's command line."""
    options = parser(__doc__)
    options.add_argument("--repository", required=True, help="checkout of PKU-YuanGroup/ChronoMagic-Bench")
    options.add_argument("--weights", required=True, help="cotracker2.pth")
    options.add_argument("--grid", type=int, default=30)
    options.add_argument("--threshold", type=float, default=0.1)
    asked = options.parse_args()
    script = Path(asked.repository).resolve() / "CHScore" / "step0-get_CHScore.py"
    if asked.describe:
        about = {"name": "CHScore", "version": "1", "kinds": ["video"], "grid": asked.grid,
                 "threshold": asked.threshold, "columns": {"score": {"what": "CHScore, coherence", "digits": 2}},
                 "licence": "Apache-2.0; CoTracker CC BY-NC 4.0"}  # fmt: skip
        hashed = {"script": short_hash(script)} if script.is_file() else {}
        return describe({**about, **hashed}, [str(script), asked.weights])
    return serve(load(script, str(Path(asked.weights).resolve()), asked.grid, asked.threshold, asked.device))


def load(script: Path, weights: str, grid: int, threshold: float, device: str):
    """The model, as a function of one line."""
    os.chdir(script.parent)
    theirs = module(script)
    model = theirs.CoTrackerPredictor(checkpoint=weights).to(device)

    def score(ask: dict) -> dict[str, float]:
        _, video = theirs.process_video(ask["file"], None)
        return {"score": float(theirs.get_score(model, video.to(device), grid, threshold)["TSI_score"])}

    return score


if __name__ == "__main__":
    sys.exit(main())
