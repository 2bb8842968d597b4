"""Real samples of the same prompts, found by the id that the prompt has in its file, and cut as the protocol says."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from benchmarks.evaluation.media_files import composed, media_files
from benchmarks.evaluation.metrics.feature_cache import frames_key
from benchmarks.evaluation.prompts import Prompt
from benchmarks.evaluation.protocols import Protocol
from seppo_core.data.source import BadItem
from seppo_core.io.remembered import remembered_sha256
from seppo_core.judging.video_pixels import even_frames
from seppo_core.models.crop import cover_crop
from seppo_core.report.wording import counted, some
from seppo_image.data import Pictures
from seppo_video.data import Clips
from seppo_video.frames import ClipError, open_clip, read_frames

NO_REFERENCE = "no reference of this prompt"
"""The reason is the same for every prompt, so that they are counted together."""
UNREADABLE = "unreadable"
"""In place of the name of the pixels of a file that could not be read."""
STYLE = "style"
"""Category of the prompts of a folder: the file that they come from."""
REVISION = "r2"
"""Begins the mark of a reference. Raised when the pixels that a file gives change, or when scores that were kept under
old marks cannot be trusted: before the second one, scores could be kept under the pixels that a file used to hold."""


class References:
    """A folder of pictures or clips called by the ids of the prompts (`videoid.mp4`); folders in it are looked into.

    The id is the one of the prompt file, or the plainer one that it has here. Prompts of a folder of files may have ids
    that begin anew in each file; theirs are looked for in folders called after the files (`anime/0.png`). A name that
    says neither which file nor which prompt is meant is ambiguous, and used for none.
    """

    def __init__(self, folder: Path, protocol: Protocol, prompts: Iterable[Prompt]):
        if not folder.is_dir():
            raise FileNotFoundError(f"--references {folder} is not a folder")
        self.folder, self.protocol = folder, protocol
        self.prompts = tuple(prompts)
        self.all = list(media_files(folder, protocol.kind))
        self._marks: dict[str, str] = {}

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = defaultdict(list)
        for file in self.all:
            found[composed(file.stem)].append(file)
        return found

    @cached_property
    def _styles(self) -> set[str]:
        return {composed(style_of(prompt)) for prompt in self.prompts}

    @cached_property
    def _styles_of(self) -> dict[str, set[str]]:
        """The files that an id occurs in, by the id; an id in several means another picture in each."""
        found: dict[str, set[str]] = defaultdict(set)
        for prompt in self.prompts:
            found[composed(prompt.given or prompt.id)].add(style_of(prompt))
        return found

    @cached_property
    def _found(self) -> dict[str, tuple[Path | None, str]]:
        """The file of each prompt by its key, or why it has none."""
        return {prompt.key: self._look_up(prompt) for prompt in self.prompts}

    def _look_up(self, prompt: Prompt) -> tuple[Path | None, str]:
        mine = composed(style_of(prompt))
        others = self._styles - {mine}
        for name in dict.fromkeys(filter(None, (prompt.given, prompt.id))):
            # what lies in a folder called after another file of prompts is of that one
            places = [(file, _folders(file, self.folder)) for file in self._by_name.get(composed(name), [])]
            files = [file for file, folders in places if mine in folders or not others & folders]
            if of_mine := [file for file, folders in places if mine and mine in folders]:
                files = of_mine
            elif files and len(styles := self._styles_of.get(composed(name), set())) > 1:
                return None, f"id {name!r} occurs in {some(sorted(styles))}, {files[0].name} could be of any"
            if len(files) > 1:
                there = [str(file.relative_to(self.folder)) for file in files]
                return None, f"id {name!r} could be {' or '.join(there[:3])}"
            if files:
                return files[0], ""
        return None, ""

    def ambiguous(self) -> list[str]:
        """Names that fit several prompts or several files, with both sides, one line each."""
        return list(dict.fromkeys(reason for file, reason in self._found.values() if file is None and reason))

    def missing(self) -> list[str]:
        """Ids, as their file has them, of the prompts without a reference."""
        return [prompt.given or prompt.id for prompt in self.prompts if self._found[prompt.key][0] is None]

    def unused(self) -> list[str]:
        """Files that no prompt is called by, relative to the folder."""
        used = {file for file, _ in self._found.values()}
        return [str(file.relative_to(self.folder)) for file in self.all if file not in used]

    def remarks(self, *, unused: bool = True) -> list[str]:
        """What does not match, of both sides, for people; without `unused`, of the prompts alone."""
        found = len(self.prompts) - len(self.missing())
        lines = [f"References: {found} of {counted(len(self.prompts), 'prompt')} have one in {self.folder}."]
        if found and (without := self.missing()):
            lines.append(f"Without a reference: {some(without)}.")
        if unused and (files := self.unused()):
            lines.append(f"{counted(len(files), 'file')} there of no prompt: {some(files)}.")
        return lines

    def file(self, prompt: Prompt) -> Path | None:
        """The prompt's real sample, None if there is none."""
        return self._found[prompt.key][0]

    def mark(self, prompt: Prompt) -> str:
        """Names the file's content and how it is cut; the file is read once as long as it stays the same."""
        path, p = self.file(prompt), self.protocol
        if path is None:
            raise ValueError(NO_REFERENCE)
        if prompt.key not in self._marks:
            # what decides the pixels of a file when a model is trained on it
            reader = Pictures(p.height, p.width) if p.kind == "image" else Clips(p.height, p.width, p.frames)
            self._marks[prompt.key] = f"{REVISION} {remembered_sha256(path)} {' '.join(map(str, reader.settings()))}"
        return self._marks[prompt.key]

    def read(self, prompt: Prompt, sha256: str | None = None) -> UInt8[Tensor, "f 3 h w"]:
        """Frames of the protocol's number and size: spread evenly, short side to size, centre cut out.

        Pictures are decoded as those that a model is trained on. ValueError if there is no file, if it cannot be read,
        or if it does not hold the frames that `sha256` (of `reference_key`) names.
        """
        path, p = self.file(prompt), self.protocol
        if path is None:
            raise ValueError(NO_REFERENCE)
        if p.kind == "image":
            try:
                frames = Pictures(p.height, p.width).decode(path.name, path).pixels[None]
            except BadItem as error:
                raise ValueError(f"reference {path.name}: {error.reason}") from error
        else:
            try:
                clip = open_clip(path)
                indices = even_frames(len(clip), p.frames).tolist()
                cut = read_frames(clip, indices, lambda x: cover_crop(Image.fromarray(x), p.height, p.width)[0])
            except ClipError as error:
                raise ValueError(f"reference {path.name}: {error}") from error
            frames = rearrange(torch.from_numpy(np.stack(cut)), "f h w c -> f c h w").contiguous()
        if sha256 is not None and reference_key(frames) != sha256:
            raise ValueError(f"reference {path.name} was changed while it was compared with; run again")
        return frames


def reference_key(frames: UInt8[Tensor, "f 3 h w"]) -> str:
    """Names the pixels of a reference, as scores and features are kept under them."""
    return f"{REVISION}-{frames_key(frames)}"


def style_of(prompt: Prompt) -> str:
    """The file of a folder that a prompt comes from; empty if it is not from a folder."""
    return next((value for column, value in prompt.categories if column == STYLE), "")


def _folders(file: Path, root: Path) -> set[str]:
    """The folders that a file lies in, below `root`, as prompt files are called after them."""
    return {composed(part).removeprefix("benchmark_") for part in file.relative_to(root).parts[:-1]}
