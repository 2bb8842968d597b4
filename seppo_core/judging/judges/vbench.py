"""Official VBench (Huang et al. 2024) on clips of any prompts, one column per dimension. Recipe: docs/judges.md.

Takes all clips at once: each dimension's model loads once. A single process's numbers are those of single clips.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from seppo_core.judging.judges.serve import describe, parser, serve_all

CUSTOM = (
    "subject_consistency", "background_consistency", "temporal_flickering", "motion_smoothness", "dynamic_degree",
    "aesthetic_quality", "imaging_quality", "temporal_style", "overall_consistency", "human_action",
)  # fmt: skip
"""Dimensions that VBench takes prompts of one's own for."""
DEFAULT = ("motion_smoothness", "dynamic_degree", "aesthetic_quality", "imaging_quality", "overall_consistency")


def main() -> int:
    """The judge's command line."""
    options = parser(__doc__)
    options.add_argument("--dimensions", nargs="+", choices=CUSTOM, default=list(DEFAULT))
    asked = options.parse_args()
    if asked.describe:
        import importlib.metadata

        columns = {name: {"what": f"VBench: {name.replace('_', ' ')}"} for name in asked.dimensions}
        about = {"name": f"VBench {importlib.metadata.version('vbench')}", "version": "1", "kinds": ["video"]}
        return describe({**about, "columns": columns, "licence": "Apache-2.0, parts non-commercial"})
    return serve_all(lambda asks: evaluate(asks, asked.dimensions, asked.device))


def evaluate(asks: list[dict], dimensions: list[str], device: str) -> Iterator:
    """Every clip's number in every dimension; a clip that a dimension leaves out has a reason instead."""
    from vbench import VBench

    with tempfile.TemporaryDirectory() as root:
        clips, out = Path(root) / "clips", Path(root) / "out"
        clips.mkdir()
        out.mkdir()
        names = {}
        for ask in asks:
            link = clips / f"{ask['id']}{Path(ask['file']).suffix}"
            link.symlink_to(ask["file"])
            names[link.name] = ask
        prompts = {name: ask["prompt"] for name, ask in names.items()}
        found: dict[str, dict[str, float]] = {ask["id"]: {} for ask in asks}
        judge = VBench(device, "", str(out))
        for dimension in dimensions:
            judge.evaluate(
                videos_path=str(clips), name=dimension, prompt_list=prompts, dimension_list=[dimension],
                mode="custom_input",
            )  # fmt: skip
            for clip, value in results(out / f"{dimension}_eval_results.json", dimension):
                found[names[clip]["id"]][dimension] = value
    for name, scores in found.items():
        absent = [dimension for dimension in dimensions if dimension not in scores]
        yield (name, None, f"VBench gave no {absent[0]}") if absent else (name, scores, None)


def results(path: Path, dimension: str) -> list[tuple[str, float]]:
    """(file name, number) of each clip in one of VBench's result files."""
    import json

    _, clips = json.loads(path.read_text(encoding="utf-8"))[dimension]
    return [(Path(clip["video_path"]).name, float(clip["video_results"])) for clip in clips]


if __name__ == "__main__":
    sys.exit(main())
