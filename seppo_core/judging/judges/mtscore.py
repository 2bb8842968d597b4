"""MTScore of ChronoMagic-Bench (Yuan et al. 2024): how much of a clip looks like a metamorphosis, by InternVideo2.

Runs the benchmark's own MTScore/step0-get_MTScore.py. Recipe: docs/judges.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from seppo_core.judging.judges.serve import describe, parser, serve
from seppo_core.judging.judges.upstream import constant, module, short_hash

CONFIG = "configs/internvideo2_stage2_config.py"


def main() -> int:
    """The judge's command line."""
    options = parser(__doc__)
    options.add_argument("--repository", required=True, help="checkout of PKU-YuanGroup/ChronoMagic-Bench")
    options.add_argument("--weights", required=True, help="InternVideo2-stage2_1b-224p-f4.pt")
    asked = options.parse_args()
    script = Path(asked.repository).resolve() / "MTScore" / "step0-get_MTScore.py"
    if asked.describe:
        columns = {"metamorphic": {"what": "MTScore: share of the metamorphic sentences among the best five"},
                   "general": {"what": "share of the general sentences", "better": -1}}  # fmt: skip
        about = {"name": "MTScore", "version": "1", "kinds": ["video"], "columns": columns, "licence": "Apache-2.0"}
        hashed = {"script": short_hash(script)} if script.is_file() else {}
        return describe({**about, **hashed}, [str(script), asked.weights])
    return serve(load(script, str(Path(asked.weights).resolve())))


def load(script: Path, weights: str):
    """The model, as a function of one line."""
    # its config names files by paths from this folder on
    os.chdir(script.parent)
    theirs = module(script)
    config = theirs.eval_dict_leaf(theirs.Config.from_file(CONFIG))
    config["model"]["vision_encoder"]["pretrained"] = weights
    model, _ = theirs.setup_internvideo2(config)
    sentences = constant(script, "text_candidates")
    positions = {text: index for index, text in enumerate(sentences)}

    def score(ask: dict) -> dict[str, float]:
        general, metamorphic = theirs.calculate_video_score(ask["file"], positions, sentences, model, config)
        return {"metamorphic": float(metamorphic), "general": float(general)}

    return score


if __name__ == "__main__":
    sys.exit(main())
