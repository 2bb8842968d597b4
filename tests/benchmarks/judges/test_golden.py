"""Numbers that judges' authors published, for whoever has the weights: `pytest -m weights`.

SEPPO_VIDEOSCORE_PYTHON names the interpreter of the judge's own environment (docs/judges.md), SEPPO_VIDEOSCORE a
checkout of TIGER-AI-Lab/VideoScore, which holds the clip and its prompt. The model comes from
SEPPO_WEIGHTS_DIR/TIGER-Lab/VideoScore-v1.1 where it lies there, else from the hub's cache; SEPPO_DEVICE is cuda unless
it says otherwise.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from seppo_core.judging.judges.upstream import constant

pytestmark = pytest.mark.weights
ROOT = Path(__file__).parents[3]
PUBLISHED = {
    "visual_quality": 2.328,
    "temporal_consistency": 2.484,
    "dynamic_degree": 2.562,
    "alignment": 1.969,
    "factual_consistency": 2.594,
}
"""VideoScore-v1.1 on examples/video1.mp4, 48 frames, bfloat16 (examples/run_videoscore.py of the repository)."""


def test_videoscore_of_the_authors_example():
    interpreter, repository = os.environ.get("SEPPO_VIDEOSCORE_PYTHON"), os.environ.get("SEPPO_VIDEOSCORE")
    if not interpreter or not repository:
        pytest.skip("SEPPO_VIDEOSCORE_PYTHON and SEPPO_VIDEOSCORE are not set")
    examples = Path(repository).expanduser() / "examples"
    if not (examples / "video1.mp4").is_file():
        pytest.skip(f"{examples / 'video1.mp4'} is not there")
    local = Path(os.environ.get("SEPPO_WEIGHTS_DIR", ".")).expanduser() / "TIGER-Lab" / "VideoScore-v1.1"
    device = os.environ.get("SEPPO_DEVICE", "cuda")
    command = [
        interpreter, "-m", "seppo_core.judging.judges.videoscore", "--repository", repository, "--device", device,
        *(["--weights", str(local)] if local.is_dir() else []),
    ]  # fmt: skip
    prompt = constant(examples / "run_videoscore.py", "video_prompt")
    ask = {"id": "1", "file": str(examples / "video1.mp4"), "prompt": prompt, "seed": 0, "kind": "video"}
    found = subprocess.run(
        command, input=json.dumps(ask) + "\n", capture_output=True, text=True, cwd=ROOT, timeout=3600
    )
    assert found.returncode == 0, found.stderr[-2000:]
    answer = json.loads(found.stdout)
    # bfloat16 has three digits, and differs between devices in the last
    assert answer.get("scores") == pytest.approx(PUBLISHED, abs=0.05), answer
