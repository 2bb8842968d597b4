"""VideoScore (He et al. 2024): five aspects of a clip, 1 to 4 each, from an 8B model. Recipe: docs/judges.md.

The query text is read from the repository's examples/run_videoscore.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from seppo_core.judging.judges.frames import evenly, read_frames
from seppo_core.judging.judges.serve import describe, parser, serve
from seppo_core.judging.judges.upstream import constant, short_hash

ASPECTS = {
    "visual_quality": "clearness, resolution, brightness, colour",
    "temporal_consistency": "of things, and smoothness of motion",
    "dynamic_degree": "how much changes",
    "alignment": "of the clip with the prompt",
    "factual_consistency": "with common sense",
}
IMAGE = "<image>"


def main() -> int:
    """The judge's command line."""
    options = parser(__doc__)
    options.add_argument("--repository", required=True, help="checkout of TIGER-AI-Lab/VideoScore")
    options.add_argument("--weights", default="TIGER-Lab/VideoScore-v1.1", help="folder or hub id")
    options.add_argument("--frames", type=int, default=48, help="48 for v1.1, 16 for v1")
    asked = options.parse_args()
    script = Path(asked.repository) / "examples" / "run_videoscore.py"
    if asked.describe:
        columns = {name: {"what": f"VideoScore: {what}"} for name, what in ASPECTS.items()}
        about = {"name": f"VideoScore {asked.weights}", "version": "1", "kinds": ["video"], "columns": columns,
                 "frames": asked.frames, "licence": "MIT"}  # fmt: skip
        query = {"query": short_hash(script)} if script.is_file() else {}
        return describe({**about, **query}, [str(script)])
    return serve(load(asked.weights, constant(script, "REGRESSION_QUERY_PROMPT"), asked.frames, asked.device))


def load(weights: str, query: str, count: int, device: str):
    """The model, as a function of one line."""
    import torch
    from mantis.models.idefics2 import Idefics2ForSequenceClassification
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(weights, torch_dtype=torch.bfloat16)
    model = Idefics2ForSequenceClassification.from_pretrained(weights, torch_dtype=torch.bfloat16).eval().to(device)

    def score(ask: dict) -> dict[str, float]:
        frames = evenly(read_frames(ask["file"]), count)
        # braces in a prompt must not be taken for fields
        text = query.replace("{text_prompt}", ask["prompt"])
        text += f"{IMAGE} " * max(0, len(frames) - text.count(IMAGE))
        inputs = processor(text=text, images=frames, return_tensors="pt")
        with torch.no_grad():
            logits = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits
        return dict(zip(ASPECTS, logits[0].float().tolist()))  # noqa: B905

    return score


if __name__ == "__main__":
    sys.exit(main())
