"""Real samples of the same prompts, found by the id that the prompt has in its file, and cut as the protocol says."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from benchmarks.evaluation.prompts import Prompt
from benchmarks.evaluation.protocols import Protocol
from seppo_core.judging.video_pixels import even_frames
from seppo_core.models.crop import cover_crop
from seppo_video.frames import ClipError, open_clip, read_frames

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CLIPS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif")
NO_REFERENCE = "no reference of this prompt"
"""The reason is the same for every prompt, so that they are counted together."""


class References:
    """A folder of pictures or clips called by the ids of the prompts (`videoid.mp4`); folders in it are looked into.

    The id is the one of the prompt file, or the plainer one that it has here.
    """

    def __init__(self, folder: Path, protocol: Protocol):
        if not folder.is_dir():
            raise FileNotFoundError(f"--references {folder} is not a folder")
        self.folder, self.protocol = folder, protocol
        suffixes = PICTURES if protocol.kind == "image" else CLIPS
        self.files = {file.stem: file for file in sorted(folder.rglob("*")) if file.suffix.lower() in suffixes}

    def missing(self, prompts: Sequence[Prompt]) -> list[str]:
        """Ids, as their file has them, of the prompts without a reference."""
        return [prompt.given or prompt.id for prompt in prompts if self.file(prompt) is None]

    def file(self, prompt: Prompt) -> Path | None:
        """The prompt's real sample, None if there is none."""
        return self.files.get(prompt.given) or self.files.get(prompt.id)

    def read(self, prompt: Prompt) -> UInt8[Tensor, "f 3 h w"]:
        """Frames of the protocol's number and size: spread evenly, short side to size, centre cut out.

        ValueError if there is no file or it cannot be read.
        """
        path, p = self.file(prompt), self.protocol
        if path is None:
            raise ValueError(NO_REFERENCE)
        if p.kind == "image":
            with Image.open(path) as image:
                cut = [cover_crop(image.convert("RGB"), p.height, p.width)[0]]
        else:
            try:
                clip = open_clip(path)
                indices = even_frames(len(clip), p.frames).tolist()
                cut = read_frames(clip, indices, lambda x: cover_crop(Image.fromarray(x), p.height, p.width)[0])
            except ClipError as error:
                raise ValueError(f"reference {path.name}: {error}") from error
        frames = torch.from_numpy(np.stack(cut))
        return rearrange(frames, "f h w c -> f c h w").contiguous()
