"""The commands of `seppo-image`, called with everything parsed and checked."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

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
from seppo_core.io.atomic import whole_file
from seppo_core.io.lazy import import_object
from seppo_core.judging.in_memory import Media
from seppo_core.models.adapter import Adapter
from seppo_core.training.setup import weight_dtype
from seppo_image.config import ImageConfig
from seppo_image.data import MAX_BYTES, Pictures


def load(config: ImageConfig, dtype: torch.dtype | None = None) -> Adapter:
    """The adapter of the config's family around its base, in `dtype`, or in that of its training."""
    dtype = weight_dtype(config) if dtype is None else dtype
    return import_object(config.model.spec.adapter).load(config.model, dtype)


def media(config: ImageConfig) -> Media:
    """How samples are written as files and read again."""
    return Media("image", write_image, read_image)


def source_of(config: ImageConfig) -> MediaSource:
    """The pictures that the config names, as `prepare` reads them."""
    d = config.data
    max_bytes = MAX_BYTES if d.max_file_mb is None else int(d.max_file_mb * 1024**2)
    return open_source(d, Pictures(d.height, d.width, max_bytes=max_bytes), config.seed)


def prepare(config: ImageConfig, request: PrepareRequest | None = None) -> None:
    commands.prepare(config, load, source_of(config), request is not None and request.overwrite)


def verify(config: ImageConfig, request: VerifyRequest) -> None:
    commands.verify(config, request)


def train(config: ImageConfig, request: TrainRequest | None = None) -> Path:
    return commands.train(config, load, request.accept_changes if request else (), media(config))


def sample(config: ImageConfig, request: SampleRequest) -> Path:
    return commands.sample(config, request, load, write_image)


def rank(config: ImageConfig, request: RankRequest) -> Path:
    # no other command needs a judge
    from seppo_core.cli.rank import rank

    return rank(config, request, load, media(config))


def export(config: ImageConfig, request: ExportRequest) -> Path:
    return commands.export(config, request, load)


def read_image(path: Path) -> UInt8[Tensor, "1 h w 3"]:
    """Reads what `write_image` wrote."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB")))[None]


def write_image(stem: Path, frames: UInt8[Tensor, "1 h w 3"]) -> Path:
    """Writes a PNG."""
    path = stem.with_name(stem.name + ".png")
    with whole_file(path) as temporary:
        Image.fromarray(frames[0].numpy()).save(temporary, format="PNG")
    return path
