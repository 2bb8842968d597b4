"""HPSv3 (Ma et al. 2025): a picture's preference score from a 7B model; of a clip, the mean over frames.

Recipe: docs/judges.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from seppo_core.judging.judges.frames import evenly, read_frames
from seppo_core.judging.judges.serve import describe, parser, serve
from seppo_core.judging.judges.upstream import short_hash


def main() -> int:
    """The judge's command line."""
    options = parser(__doc__)
    options.add_argument("--weights", help="HPSv3.safetensors; fetched from the hub if it is not given")
    options.add_argument("--frames", type=int, default=16, help="of a clip, evenly spread")
    options.add_argument("--batch", type=int, default=4)
    asked = options.parse_args()
    if asked.describe:
        columns = {"score": {"what": "HPSv3, the predicted mean", "digits": 2}}
        about = {"name": "HPSv3", "version": "1", "kinds": ["image", "video"], "columns": columns,
                 "frames": asked.frames, "licence": "MIT"}  # fmt: skip
        needs = [] if asked.weights is None else [asked.weights]
        given = {} if not needs or not Path(asked.weights).is_file() else {"weights": short_hash(Path(asked.weights))}
        return describe({**about, **given}, needs)
    return serve(load(asked.weights, asked.device, asked.frames, asked.batch))


def load(weights: str | None, device: str, count: int, batch: int):
    """The model, as a function of one line."""
    from hpsv3 import HPSv3RewardInferencer

    judge = HPSv3RewardInferencer(checkpoint_path=weights, device=device)

    def score(ask: dict) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            paths = [ask["file"]]
            if ask["kind"] == "video":
                paths = []
                for number, frame in enumerate(evenly(read_frames(ask["file"]), count)):
                    paths.append(str(Path(folder) / f"{number}.png"))
                    frame.save(paths[-1])
            values = []
            for start in range(0, len(paths), batch):
                part = paths[start : start + batch]
                # the arguments changed places between releases, their names did not
                found = judge.reward(prompts=[ask["prompt"]] * len(part), image_paths=part)
                # mean and deviation of each; the mean is the score
                values += [float(one[0]) for one in found]
        return {"score": sum(values) / len(values)}

    return score


if __name__ == "__main__":
    sys.exit(main())
