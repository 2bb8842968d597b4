"""An AnimateDiff run shows clips of its fixed prompts, the base's beside them."""

from pathlib import Path

import pytest
import torch
from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seppo_core.config.loader import load_config
from seppo_core.io.rng import keyed_normal
from seppo_core.training.preview import load_frames
from seppo_video import commands
from seppo_video.__main__ import main as seppo_video
from seppo_video.config import VideoConfig

pytestmark = pytest.mark.filterwarnings("ignore:AnimateDiff's motion modules were trained")

PROMPTS = ["a bar moves", "a red bar"]
SIZE, FRAMES, COLUMNS = 64, 4, 2


def plain_grid(root: Path) -> torch.Tensor:
    """The base's clips by plain diffusers, frames (f, rows · h, columns · w, 3) of 0 to 255."""
    adapter = commands.load(load_config(root / "config.yaml", VideoConfig))
    pipeline = AnimateDiffPipeline.from_pretrained(
        root / "base",
        motion_adapter=MotionAdapter.from_pretrained(root / "motion"),
        scheduler=DDIMScheduler.from_config(adapter.scheduler.config),
    )
    pipeline.set_progress_bar_config(disable=True)
    rows = []
    for row, prompt in enumerate(PROMPTS):
        shape = (4, FRAMES, SIZE // 8, SIZE // 8)
        noise = torch.stack([keyed_normal(shape, 0, "preview", row, column) for column in range(COLUMNS)])
        clips = pipeline(
            [prompt] * COLUMNS, height=SIZE, width=SIZE, num_frames=FRAMES, num_inference_steps=2, guidance_scale=3.0,
            latents=noise, output_type="pt",
        ).frames  # fmt: skip
        rows.append(torch.cat([clip.permute(0, 2, 3, 1) for clip in clips], dim=2))
    return torch.cat(rows, dim=1) * 255


@pytest.mark.slow
def test_clips_are_shown_with_the_base_beside(clips, tmp_path):
    run = tmp_path / "run"
    changed = [
        "--run", str(run), "--data.cache", str(tmp_path / "cache"),
        "--preview.prompts", *PROMPTS, "--preview.every", "2",
        "--preview.per_prompt", str(COLUMNS), "--preview.steps", "2", "--preview.guidance_scale", "3",
        "--preview.scheduler", "ddim",
    ]  # fmt: skip
    config = str(clips / "config.yaml")
    assert seppo_video(["prepare", config, *changed]) == 0
    assert seppo_video(["train", config, *changed]) == 0
    files = sorted((run / "previews").glob("*.webp"))
    assert [path.name for path in files] == [f"update-00000{update}.webp" for update in (0, 2, 4)]
    with Image.open(files[0]) as picture:
        assert picture.is_animated and picture.n_frames == FRAMES
    start, middle, end = (load_frames(path) for path in files)
    assert start.shape == (FRAMES, SIZE * len(PROMPTS), SIZE * COLUMNS, 3)
    assert (start.float() - plain_grid(clips)).abs().max() <= 1.01
    width = start.shape[2]
    for later in (middle, end):
        assert torch.equal(later[:, :, :width], start)
        assert not torch.equal(later[:, :, -width:], start)
    assert not torch.equal(end[:, :, -width:], middle[:, :, -width:])
    shown = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload().Images("preview")
    assert [event.step for event in shown] == [0, 2, 4]
