"""The judges' scripts as processes, on stand-ins for the authors' packages: the models themselves do not run here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seppo_core.judging.judges.dynamic_degree import dynamic_degree
from seppo_core.judging.judges.frames import evenly, read_frames
from seppo_core.judging.judges.upstream import constant
from seppo_video.frames import write_clip

ROOT = Path(__file__).parents[3]
STANDINS = {
    "mantis/__init__.py": "",
    "mantis/models/__init__.py": "",
    "mantis/models/idefics2.py": """
import torch
from types import SimpleNamespace
class Idefics2ForSequenceClassification:
    device = "cpu"
    @classmethod
    def from_pretrained(cls, name, torch_dtype): return cls()
    def eval(self): return self
    def to(self, device): return self
    def __call__(self, frames, words):
        return SimpleNamespace(logits=torch.tensor([[frames.item(), words.item(), 1, 2, 3]]))
""",
    "transformers/__init__.py": """
import torch
class AutoProcessor:
    @classmethod
    def from_pretrained(cls, name, torch_dtype): return cls()
    def __call__(self, text, images, return_tensors):
        assert text.count("<image>") == len(images) and "{" not in text.split("prompt is")[0]
        return {"frames": torch.tensor(float(len(images))), "words": torch.tensor(float(len(text.split('"')[1])))}
""",
    "VideoScore/examples/run_videoscore.py": "REGRESSION_QUERY_PROMPT = 'the prompt is \"{text_prompt}\" '\n",
    "VideoAlign/helper.py": "",
    "VideoAlign/inference.py": """
import helper
class VideoVLMRewardInference:
    def __init__(self, weights, device, dtype): print("loading", weights)
    def reward(self, files, prompts, use_norm):
        return [{"VQ": 1.0, "MQ": 2.0, "TA": len(prompts[0]), "Overall": 3.0 + len(prompts[0])}]
""",
    "reward/model_config.json": "{}",
    "hpsv3/__init__.py": """
from PIL import Image
class HPSv3RewardInferencer:
    def __init__(self, checkpoint_path=None, device="cuda"): pass
    def reward(self, prompts, image_paths):
        import torch
        return torch.tensor([[float(Image.open(p).convert("RGB").getpixel((0, 0))[0]), 9.0] for p in image_paths])
""",
    "vbench/__init__.py": """
import json, os
class VBench:
    def __init__(self, device, info, out): self.out = out
    def evaluate(self, videos_path, name, prompt_list, dimension_list, mode):
        clips = [{"video_path": os.path.join(videos_path, f), "video_results": len(p)} for f, p in prompt_list.items()]
        clips = [c for c in clips if c["video_results"] != 4]
        json.dump({name: [0.5, clips]}, open(os.path.join(self.out, name + "_eval_results.json"), "w"))
""",
    "vbench-0.1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: vbench\nVersion: 0.1.5\n",
    "Chrono/MTScore/configs/internvideo2_stage2_config.py": "",
    "Chrono/MTScore/step0-get_MTScore.py": """
import os
class Config:
    @staticmethod
    def from_file(path):
        assert os.path.isfile(path)
        return {"model": {"vision_encoder": {}}}
def eval_dict_leaf(config): return config
def setup_internvideo2(config): return config["model"]["vision_encoder"]["pretrained"], None
def calculate_video_score(path, positions, sentences, model, config):
    assert os.path.isfile(model) and positions[sentences[1]] == 1
    return 0.25, 0.5
def main():
    text_candidates = ["a", "b"]
""",
    "Chrono/CHScore/cotracker/__init__.py": "",
    "Chrono/CHScore/cotracker/predictor.py": """
class CoTrackerPredictor:
    def __init__(self, checkpoint): pass
    def to(self, device): return self
""",
    "Chrono/CHScore/step0-get_CHScore.py": """
import torch
from cotracker.predictor import CoTrackerPredictor
def process_video(path, size): return None, torch.zeros(1, 4, 3, 8, 8)
def get_score(model, video, grid_size, threshold): return {"TSI_score": video.shape[1] + grid_size + threshold}
""",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("upstream")
    for name, content in STANDINS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (root / "weights.pth").write_bytes(b"x")
    for name, shade in (("a", 10), ("b", 50)):
        write_clip(root / f"{name}.mp4", np.full((6, 32, 32, 3), shade, dtype=np.uint8), 8)
    Image.fromarray(np.full((4, 4, 3), 30, dtype=np.uint8)).save(root / "c.png")
    return root


COMMANDS = {
    "videoscore": ["--repository", "VideoScore", "--frames", "4"],
    "videoreward": ["--repository", "VideoAlign", "--weights", "reward"],
    "hpsv3": [],
    "vbench": ["--dimensions", "motion_smoothness", "human_action"],
    "mtscore": ["--repository", "Chrono", "--weights", "weights.pth"],
    "chscore": ["--repository", "Chrono", "--weights", "weights.pth"],
}


def call(place: Path, judge: str, *options: str, asks: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"seppo_core.judging.judges.{judge}", "--device", "cpu", *options]
    paths = {"PYTHONPATH": f"{place}:{ROOT}", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, input=asks, capture_output=True, text=True, cwd=place, env=paths, timeout=120)


@pytest.mark.parametrize(
    "judge", ["videoscore", *(pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS if name != "videoscore")]
)
def test_a_judge_describes_itself_and_answers(place, judge):
    described = call(place, judge, *COMMANDS[judge], "--describe")
    assert described.returncode == 0, described.stderr
    about = json.loads(described.stdout)
    assert about["name"] and about["version"] and "video" in about["kinds"]
    lines = [
        {"id": "one", "file": str(place / "a.mp4"), "prompt": "a cat {sits}", "seed": 0, "kind": "video"},
        {"id": "two", "file": str(place / "b.mp4"), "prompt": "dogs", "seed": 0, "kind": "video"},
        {"id": "gone", "file": str(place / "gone.mp4"), "prompt": "dogs", "seed": 0, "kind": "video"},
    ]
    done = call(place, judge, *COMMANDS[judge], asks="".join(json.dumps(line) + "\n" for line in lines))
    assert done.returncode == 0, done.stderr
    answers = {line["id"]: line for line in map(json.loads, done.stdout.splitlines())}
    expected = {
        "videoscore": {"visual_quality": 4, "temporal_consistency": 12, "dynamic_degree": 1, "alignment": 2,
                       "factual_consistency": 3},
        "videoreward": {"VQ": 1, "MQ": 2, "TA": 12, "Overall": 15},
        "hpsv3": {"score": 10},
        "vbench": {"motion_smoothness": 12, "human_action": 12},
        "mtscore": {"metamorphic": 0.5, "general": 0.25},
        "chscore": {"score": 34.1},
    }[judge]  # fmt: skip
    assert answers["one"]["scores"] == pytest.approx(expected, abs=1.5 if judge == "hpsv3" else 1e-6)
    assert expected.keys() == about["columns"].keys()
    if judge == "vbench":
        assert answers["two"]["error"] == "VBench gave no motion_smoothness"
    if judge in ("videoscore", "hpsv3"):
        assert "gone.mp4" in answers["gone"]["error"] and answers["two"]["scores"]


def test_what_is_missing_is_said(place):
    found = call(place, "videoreward", "--repository", "nowhere", "--weights", "reward", "--describe")
    assert found.returncode == 1 and "nowhere/inference.py, which is not there" in found.stderr


def moving(pixels: float, pairs: int, still: int = 0) -> list[torch.Tensor]:
    """Flows in which a twentieth of the picture moves so far, and then some that do not move."""
    flow = torch.zeros(1, 2, 64, 64)
    flow[0, 0].view(-1)[:205] = pixels
    return [flow] * pairs + [torch.zeros_like(flow)] * still


@pytest.mark.parametrize(
    ("pixels", "pairs", "still", "fps", "moves"),
    [
        # 16 frames need 4 pairs beyond 6 · 64 / 256 = 1.5 pixels
        (1.6, 4, 11, 8, 1),
        (1.6, 3, 12, 8, 0),
        (1.4, 15, 0, 8, 0),
        # at 4 frames a second twice as far
        (2.9, 15, 0, 4, 0),
        (3.1, 15, 0, 4, 1),
    ],
)
def test_dynamic_degree(pixels, pairs, still, fps, moves):
    flows = iter(moving(pixels, pairs, still))
    found = dynamic_degree(torch.zeros(16, 3, 64, 64, dtype=torch.uint8), fps, lambda a, b: next(flows))
    assert found["moves"] == moves
    # 204 pixels are looked at, all of which moved
    assert found["flow"] == pytest.approx(pixels * pairs / 15, rel=1e-5)


def test_dynamic_degree_pads_and_takes_every_second_frame_of_16_a_second():
    seen = []

    def flow(first, second):
        seen.append((first.shape, first.flatten()[0].item(), second.flatten()[0].item()))
        return torch.full((1, 2, *first.shape[-2:]), 9.0)

    frames = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 60, 70)
    assert dynamic_degree(frames, 16, flow)["moves"] == 1
    assert [shape for shape, *_ in seen] == [(1, 3, 64, 72)] * 3
    assert [round((value + 1) * 127.5) for _, value, _ in seen] == [0, 2, 4]
    assert dynamic_degree(frames[:1], 8, flow) == {"moves": 0.0, "flow": 0.0}


def test_frames_and_constants(place, tmp_path):
    assert [frame.size for frame in read_frames(str(place / "a.mp4"))] == [(32, 32)] * 6
    assert len(read_frames(str(place / "c.png"))) == 1
    assert evenly(list(range(10)), 4) == [0, 2, 5, 7] and evenly([1, 2], 4) == [1, 2]
    script = tmp_path / "x.py"
    script.write_text("import nothing_here\nx: int\nX = ['a', 1]\n")
    assert constant(script, "X") == ["a", 1]
    with pytest.raises(ValueError, match="assigns nothing to Y"):
        constant(script, "Y")
