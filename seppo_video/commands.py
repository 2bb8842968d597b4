"""The commands of `seppo-video`, called with everything parsed and checked."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from seppo_core.cache.clip_times import ClipTimes
from seppo_core.cli import commands
from seppo_core.config.options import (
    ExportRequest,
    PrepareRequest,
    RankRequest,
    SampleRequest,
    TrainRequest,
    VerifyRequest,
)
from seppo_core.data.media import MediaSource
from seppo_core.data.open import open_source
from seppo_core.io.lazy import import_object
from seppo_core.judging.in_memory import Media
from seppo_core.models.adapter import Adapter
from seppo_core.models.tuning import merge_lora
from seppo_core.training.setup import weight_dtype
from seppo_video.config import VideoConfig, VideoModel
from seppo_video.data import MAX_BYTES, Clips
from seppo_video.frames import open_clip, read_frames, write_clip
from seppo_video.times import times_text


def load(config: VideoConfig, dtype: torch.dtype | None = None) -> Adapter:
    """The adapter of the config's family around its base, in `dtype`, or in that of its training."""
    dtype = weight_dtype(config) if dtype is None else dtype
    return import_object(config.model.spec.adapter).load(config.model, dtype)


def media(config: VideoConfig) -> Media:
    """How samples are written as files, without loss, and read again."""
    return Media("video", partial(write_video, lossless=True, fps=config.model.fps), read_video)


def source_of(config: VideoConfig) -> MediaSource:
    """The clips that the config names, as `prepare` reads them."""
    d = config.data
    max_bytes = MAX_BYTES if d.max_file_mb is None else int(d.max_file_mb * 1024**2)
    clips = Clips(
        d.height,
        d.width,
        d.frames,
        sampling=d.sampling,
        stride=d.stride,
        reader=d.reader,
        seed=config.seed,
        max_bytes=max_bytes,
    )
    return open_source(d, clips, config.seed)


def prepare(config: VideoConfig, request: PrepareRequest | None = None) -> None:
    d = config.data
    manifest = commands.prepare(config, load, source_of(config), request is not None and request.overwrite)
    if manifest.clip_times is not None and os.environ.get("RANK", "0") == "0":
        for line in times_text(ClipTimes.from_json(manifest.clip_times), d.frames, config.model.fps):
            print(line)


def verify(config: VideoConfig, request: VerifyRequest) -> None:
    commands.verify(config, request)


def train(config: VideoConfig, request: TrainRequest | None = None) -> Path:
    return commands.train(config, load, request.accept_changes if request else (), media(config))


def sample(config: VideoConfig, request: SampleRequest) -> Path:
    write = partial(write_video, lossless=request.lossless, fps=config.model.fps)
    return commands.sample(config, request, load, write)


def rank(config: VideoConfig, request: RankRequest) -> Path:
    # no other command needs a judge
    from seppo_core.cli.rank import rank

    return rank(config, request, load, media(config))


def export(config: VideoConfig, request: ExportRequest) -> Path:
    """As for images, and the motion modules alone as a MotionAdapter that any base of the family takes."""
    return export_motion(config, request) if request.kind == "motion" else commands.export(config, request, load)


def export_motion(config: VideoConfig, request: ExportRequest) -> Path:
    """Writes the policy's motion modules, a LoRA on them merged, as a MotionAdapter folder."""

    def write(adapter: Adapter, folder: Path, kind: str) -> None:
        merge_lora(adapter.denoiser)
        adapter.motion_adapter().save_pretrained(folder)

    return commands.export_with(config, request, load, write)


def read_video(path: Path) -> UInt8[Tensor, "f h w 3"]:
    """Reads a whole clip."""
    clip = open_clip(path)
    return torch.from_numpy(np.stack(read_frames(clip, list(range(len(clip))), np.array)))


def write_video(
    stem: Path, frames: UInt8[Tensor, "f h w 3"], lossless: bool = False, fps: int = VideoModel.fps
) -> Path:
    """Writes an .mp4 that everything plays, or an .mkv that is exact to the bit."""
    path = stem.with_name(stem.name + (".mkv" if lossless else ".mp4"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, frames.numpy(), fps, lossless)
    return path
