"""VideoReward (Liu et al. 2025, VideoAlign): visual and motion quality and alignment, normalised, and their sum.

Runs the repository's own inference.py. Recipe: docs/judges.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from seppo_core.judging.judges.serve import describe, parser, serve
from seppo_core.judging.judges.upstream import module, short_hash

COLUMNS = {"VQ": "visual quality", "MQ": "motion quality", "TA": "alignment with the prompt", "Overall": "their sum"}


def main() -> int:
    """The judge's command line."""
    options = parser(__doc__)
    options.add_argument("--repository", required=True, help="checkout of KwaiVGI/VideoAlign")
    options.add_argument("--weights", required=True, help="folder of KwaiVGI/VideoReward with model_config.json")
    asked = options.parse_args()
    script, config = Path(asked.repository) / "inference.py", Path(asked.weights) / "model_config.json"
    if asked.describe:
        columns = {name: {"what": f"VideoReward: {what}"} for name, what in COLUMNS.items()}
        about = {"name": "VideoReward", "version": "1", "kinds": ["video"], "columns": columns, "licence": "MIT"}
        hashes = {path.name: short_hash(path) for path in (script, config) if path.is_file()}
        return describe({**about, "files": hashes}, [str(script), str(config)])
    return serve(load(script, asked.weights, asked.device))


def load(script: Path, weights: str, device: str):
    """The model, as a function of one line."""
    import torch

    judge = module(script).VideoVLMRewardInference(weights, device=device, dtype=torch.bfloat16)

    def score(ask: dict) -> dict[str, float]:
        with torch.no_grad():
            found = judge.reward([ask["file"]], [ask["prompt"]], use_norm=True)[0]
        return {name: float(found[name]) for name in COLUMNS}

    return score


if __name__ == "__main__":
    sys.exit(main())
