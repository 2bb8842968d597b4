"""The commands of `seppo-video`, called with everything parsed and checked."""

from functools import partial
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from seppo_core import commands
from seppo_core.adapter import Adapter
from seppo_core.commands import load_policy_into
from seppo_core.export import merge_lora
from seppo_core.files import whole_folder
from seppo_core.requests import ExportRequest, SampleRequest
from seppo_video.animatediff import AnimateDiff
from seppo_video.cogvideox import CogVideoX
from seppo_video.config import PLAYBACK_FPS, VideoConfig
from seppo_video.data import ClipFolder
from seppo_video.frames import write_clip
from seppo_video.hunyuan import HunyuanVideo
from seppo_video.ltx import LTX
from seppo_video.wan import Wan

FAMILIES = {"animatediff": AnimateDiff, "cogvideox": CogVideoX, "hunyuan": HunyuanVideo, "ltx": LTX, "wan": Wan}
"""By their names in a config."""


def load(config: VideoConfig) -> Adapter:
    """The adapter of the config's family around its base."""
    m = config.model
    family = FAMILIES[m.family]
    dtype = commands.weight_dtype(config)
    return family.load(m.base, dtype=dtype, vae=m.vae, revision=m.revision, variant=m.variant, **m.family_keys())


def prepare(config: VideoConfig) -> None:
    d = config.data
    source = ClipFolder(
        Path(d.source), d.height, d.width, d.frames, d.sampling, d.stride, reader=d.reader, seed=config.seed
    )
    commands.prepare(config, load, source)


def train(config: VideoConfig) -> None:
    commands.train(config, load)


def sample(config: VideoConfig, request: SampleRequest) -> None:
    write = partial(write_video, lossless=request.lossless, fps=config.model.playback_fps)
    commands.sample(config, request, load, write)


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


def write_video(
    stem: Path, frames: UInt8[Tensor, "f h w 3"], lossless: bool = False, fps: int = PLAYBACK_FPS["animatediff"]
) -> Path:
    """Writes an .mp4 that everything plays, or an .mkv that is exact to the bit."""
    path = stem.with_name(stem.name + (".mkv" if lossless else ".mp4"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, frames.numpy(), fps, lossless)
    return path
