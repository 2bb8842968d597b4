"""Grids of fixed prompts from fixed noise, drawn as training goes: people look before they read."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.schedulers import SchedulerMixin
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image, ImageSequence
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from seppo_core.config.schema import Config
from seppo_core.io import purposes
from seppo_core.io.atomic import whole_file
from seppo_core.io.ledger import Ledger
from seppo_core.io.rng import keyed_generator, keyed_normal
from seppo_core.models.adapter import Adapter, Condition
from seppo_core.models.finite import is_finite
from seppo_core.models.pixels import to_frames
from seppo_core.models.sampling import sample_steps

FPS = 8


def frame_rate(config: Config) -> int:
    """Frames a second that a run's clips play at: `model.fps`, and FPS for a family without it (pictures)."""
    return vars(config.model).get("fps", FPS)


@dataclass(frozen=True)
class Rendered:
    """A preview that was drawn: its file, and whether the start's samples are in it, to the left."""

    path: Path
    beside: bool
    samples: list[UInt8[Tensor, "seeds f h w 3"]]
    """Of each prompt, the samples that are to be scored."""
    broken: set[tuple[int, int]]
    """Row and column of those whose values are not finite."""


class Preview:
    """Draws one row of `columns` samples per prompt: a PNG for images, an animated WebP for videos.

    The noise depends on the seed alone, so that the pictures of one run, and of runs of one seed, can be compared. What
    is drawn after the start has the start's samples of the same noise on its left, `with_start`.
    `conditions` are the prompts', one row each; `every` = 0 leaves only the first and the last drawing. `ledger` holds
    the files' hashes, by which a damaged one is noticed. `scored` samples of each prompt are kept for a judge; those
    beyond `columns` are in no picture. Clips play at `fps` frames a second. `batch_size` samples are drawn at once, of
    several prompts together; None draws each prompt's by themselves, `columns` at once.
    """

    def __init__(
        self,
        adapter: Adapter,
        folder: Path,
        condition: Condition,
        unconditional: Condition,
        latent_shape: tuple[int, ...],
        *,
        every: int,
        steps: int,
        guidance_scale: float,
        scheduler: SchedulerMixin | None = None,
        columns: int = 2,
        seed: int = 0,
        with_start: bool = True,
        ledger: Ledger | None = None,
        scored: int = 0,
        fps: int = FPS,
        batch_size: int | None = None,
    ):
        self.adapter = adapter
        self.folder = folder
        self.condition = condition
        self.unconditional = unconditional
        self.latent_shape = latent_shape
        self.every = every
        self.steps = steps
        self.guidance_scale = guidance_scale
        self.scheduler = scheduler
        self.columns = columns
        self.seed = seed
        self.with_start = with_start
        self.ledger = ledger
        self.scored = scored
        self.fps = fps
        self.batch_size = batch_size

    def due(self, update: int) -> bool:
        return self.every > 0 and update % self.every == 0

    def drawn(self, update: int) -> bool:
        """Whether the picture of `update` is there; a damaged one is not, which is said."""
        path = self._file(update)
        return path is not None and self._frames(path, "drawn anew") is not None

    def _frames(self, path: Path, then: str) -> Tensor | None:
        """What a picture shows; None if it is damaged, with a word of what is done `then`."""
        try:
            problem = None if self.ledger is None else self.ledger.problem(path)
            if problem is None:
                return load_frames(path)
        except (OSError, ValueError, SyntaxError) as error:
            # Pillow's, and that of a damaged ledger
            problem = f"cannot be read ({error})"
        tqdm.write(f"preview {path} {problem}; {then}")
        return None

    def _file(self, update: int) -> Path | None:
        return next(self.folder.glob(f"update-{update:06d}.*"), None)

    def render(
        self, denoiser: nn.Module, update: int, writer: SummaryWriter | None = None, save: bool = True
    ) -> Iterator[Rendered | None]:
        """Samples, saves `update-000030.png` (or .webp) and, with a writer, shows the same in TensorBoard.

        Yields None after each of the solver's steps, and at last what was drawn (None without `save`). Without `save`
        it only samples, as all processes of a sharded denoiser must.
        """
        drawn: dict[tuple[int, int], Tensor] = {}
        broken = set()
        for batch in self._batches():
            for latents in self._sample(denoiser, batch):  # noqa: B007
                yield None
            with torch.no_grad():
                pixels = self.adapter.decode(latents).float().cpu()
            if not is_finite(pixels):
                bad = {place for place, one in zip(batch, pixels, strict=True) if not is_finite(one)}
                for row in sorted({row for row, _ in bad}):
                    tqdm.write(
                        f"preview of update {update}: prompt {row + 1} gives values that are not finite, drawn grey"
                    )
                broken |= bad
            drawn |= zip(batch, to_frames(pixels.nan_to_num(0.0)), strict=True)
        if not save:
            # every process yields as often as the one that saves, because processes of a sharded model meet after each
            yield None
            return
        samples = [torch.stack([drawn[row, c] for c in range(self.scored)]) for row in self._rows if self.scored]
        frames = tile([[drawn[row, c] for c in range(self.columns)] for row in self._rows])
        start = self._start(update) if update > 0 and self.with_start else None
        together = frames if start is None else beside(start, frames)
        stem = self.folder / f"update-{update:06d}"
        with nullcontext() if self.ledger is None else self.ledger.writing(file_of(together, stem)):
            path = save_frames(together, stem, self.fps)
        if writer is not None:
            writer.add_image("preview", together[len(together) // 2], update, dataformats="HWC")
        yield Rendered(path, together is not frames, samples, broken)

    @property
    def _rows(self) -> range:
        """Numbers of the prompts."""
        return range(next(iter(self.condition.values())).shape[0])

    def _batches(self) -> list[list[tuple[int, int]]]:
        """Row and column of the samples that are drawn at once, batch by batch."""
        # the grid's samples are in batches of their own, so that they are the same whatever is scored
        parts = range(self.columns), range(self.columns, self.scored)
        if self.batch_size is None:
            size, alike = self.columns, [[(row, c) for c in part] for row in self._rows for part in parts]
        else:
            size, alike = self.batch_size, [[(row, c) for row in self._rows for c in part] for part in parts]
        return [one[first : first + size] for one in alike for first in range(0, len(one), size)]

    def _sample(self, denoiser: nn.Module, batch: list[tuple[int, int]]) -> Iterator[Tensor]:
        """The latents of these samples, after each of the solver's steps."""
        device = self.adapter.device
        rows = [row for row, _ in batch]
        keys = [(self.seed, purposes.PREVIEW, row, column) for row, column in batch]
        condition = {
            # of one prompt without copies
            key: value[rows[:1]].to(device).expand(len(rows), *value.shape[1:])
            if len(set(rows)) == 1
            else value[rows].to(device)
            for key, value in self.condition.items()
        }
        return sample_steps(
            self.adapter,
            denoiser,
            condition,
            noise=torch.stack([keyed_normal(self.latent_shape, *key) for key in keys]).to(device),
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            unconditional={key: value.to(device) for key, value in self.unconditional.items()},
            scheduler=self.scheduler,
            generators=[keyed_generator(*key, purposes.SAMPLER) for key in keys],
        )

    def _start(self, update: int) -> Tensor | None:
        """What the picture of the start shows; None, with a word, if there is none."""
        path, without = self._file(0), f"that of update {update} is drawn without it"
        if path is None:
            tqdm.write(f"the preview of the start is missing in {self.folder}; {without}")
            return None
        return self._frames(path, without)


def tile(frames: Sequence[Sequence[Tensor]]) -> Tensor:
    """Frames (f, h, w, 3) of rows of samples as those of one grid, (f, rows·h, columns·w, 3)."""
    return rearrange([torch.stack(list(row)) for row in frames], "r k f h w c -> f (r h) (k w) c")


def beside(left: Tensor, right: Tensor, gap: int = 8) -> Tensor:
    """Two grids of one size, uint8 frames (f, h, w, 3), a white line between them; `right` alone if sizes differ."""
    if left.shape != right.shape:
        return right
    line = torch.full((*right.shape[:2], gap, 3), 255, dtype=torch.uint8)
    return torch.cat([left, line, right], dim=2)


def load_frames(path: Path) -> Tensor:
    """Frames (f, h, w, 3), uint8, of what `save_frames` wrote."""
    with Image.open(path) as picture:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
    return torch.from_numpy(np.stack(frames))


def file_of(frames: Tensor, stem: Path) -> Path:
    """The file that `save_frames` writes."""
    return stem.with_name(stem.name + (".png" if len(frames) == 1 else ".webp"))


def save_frames(frames: Tensor, stem: Path, fps: int = FPS) -> Path:
    """Saves uint8 frames (f, h, w, 3): one as PNG, several as a looping lossless WebP of `fps`; returns the path."""
    pictures = [Image.fromarray(frame.numpy()) for frame in frames]
    path = file_of(frames, stem)
    with whole_file(path) as temporary:
        if len(pictures) == 1:
            pictures[0].save(temporary, format="PNG")
        else:
            pictures[0].save(
                temporary, format="WEBP", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0,
                lossless=True,
            )  # fmt: skip
    return path
