"""The commands of `seppo-video`, called with everything parsed and checked."""

from functools import partial
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from seppo_core import commands
from seppo_core.adapter import Adapter
from seppo_core.commands import load_policy_into
from seppo_core.config import ExportRequest, SampleRequest
from seppo_core.export import merge_lora
from seppo_core.files import whole_folder
from seppo_video.animatediff import AnimateDiff
from seppo_video.config import VideoConfig
from seppo_video.data import ClipFolder
from seppo_video.frames import write_clip

PLAYBACK_FPS = 8
"""What AnimateDiff's clips are shown at."""


def load(config: VideoConfig) -> Adapter:
    """The adapter of the config's family around its base."""
    m = config.model
    return AnimateDiff.load(
        m.base,
        motion_adapter=m.motion_adapter,
        dtype=getattr(torch, m.dtype),
        schedule=m.schedule,
        vae=m.vae,
        revision=m.revision,
        variant=m.variant,
    )


def prepare(config: VideoConfig) -> None:
    d = config.data
    source = ClipFolder(
        Path(d.source), d.height, d.width, d.frames, d.sampling, d.stride, reader=d.reader, seed=config.seed
    )
    commands.prepare(config, load, source)


def train(config: VideoConfig) -> None:
    commands.train(config, load)


def sample(config: VideoConfig, request: SampleRequest) -> None:
    commands.sample(config, request, load, partial(write_video, lossless=request.lossless))


def export(config: VideoConfig, request: ExportRequest) -> None:
    """As for images, and the motion modules alone as a MotionAdapter that any base of the family takes."""
    if request.kind == "motion":
        export_motion(config, request)
    else:
        commands.export(config, request, load)


def export_motion(config: VideoConfig, request: ExportRequest) -> Path:
    """Writes the policy's motion modules, a LoRA on them merged, as a MotionAdapter folder."""
    adapter = load(config)
    name = load_policy_into(adapter, config, request.checkpoint)
    out = Path(config.run) / "export" / f"motion-{name}" if request.out is None else Path(request.out)
    merge_lora(adapter)
    with whole_folder(out) as temporary:
        adapter.motion_adapter().save_pretrained(temporary)
    print(f"motion of {name}: {out}")
    return out


def write_video(stem: Path, frames: UInt8[Tensor, "f h w 3"], lossless: bool = False) -> Path:
    """Writes an .mp4 that everything plays, or an .mkv that is exact to the bit."""
    path = stem.with_name(stem.name + (".mkv" if lossless else ".mp4"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, frames.numpy(), PLAYBACK_FPS, lossless)
    return path
