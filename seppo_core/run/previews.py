"""The previews of a run, by the index beside them: what was drawn after which update, and how a judge scored it.

Without torch. Scores of two previews are compared only if both are of the same judge, prompts, noise and solver.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self

from seppo_core.config.schema import Config
from seppo_core.io.atomic import save_text
from seppo_core.io.checked_json import CHECK, checked, is_intact
from seppo_core.io.hashing import sha256_json
from seppo_core.report.wording import counted
from seppo_core.run.checkpoint_names import FOLDER as CHECKPOINTS
from seppo_core.run.checkpoint_names import checkpoint_name
from seppo_core.run.history import append_line, read_lines

if TYPE_CHECKING:
    from seppo_core.report.statistics import Interval

FOLDER = "previews"
INDEX = "index.jsonl"
Scores = tuple[tuple[float | None, ...], ...]
"""A score a prompt and seed; None for a sample that has none."""


@dataclass(frozen=True)
class Drawing:
    """All but the weights that the samples of a preview depend on."""

    prompts: tuple[str, ...]
    seed: int
    per_prompt: int
    scheduler: str
    steps: int
    guidance_scale: float
    height: int
    width: int
    frames: int

    @classmethod
    def of(cls, config: Config) -> Self:
        """Of the previews that a run of `config` draws."""
        p, d = config.preview, config.data
        own = {field.name: vars(p)[field.name] for field in fields(cls) if field.name in vars(p)}
        return cls(**own, height=d.height, width=d.width, frames=d.frames)

    @property
    def grid(self) -> tuple[tuple[int, int], int, int]:
        """Width and height of a sample, rows and columns of a grid."""
        return (self.width, self.height), len(self.prompts), self.per_prompt

    def same_samples(self, other: "Drawing") -> bool:
        """Whether both draw the same prompts from the same noise in the same size, by whatever solver."""
        names = ("prompts", "seed", "per_prompt", "height", "width", "frames")
        return all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(frozen=True)
class PreviewRecord:
    """A line of the index. `judge` and `fingerprint` name the judge; `scores` is None if it gave none, and `problem`
    says why, or what is missing in them."""

    update: int
    file: str
    """Name of the picture or clip, beside the index."""
    beside: bool
    """Whether the start's samples are in the file, to the left."""
    drawing: Drawing
    judge: str | None = None
    fingerprint: str | None = None
    scores: Scores | None = None
    problem: str | None = None

    @property
    def kind(self) -> str:
        """What the scores of two previews must have in common to be compared."""
        drawn = asdict(self.drawing) | {"per_prompt": len(self.scores[0]) if self.scores else 0}
        return sha256_json([self.fingerprint, drawn])

    @property
    def complete(self) -> bool:
        """Whether every sample has a score."""
        return self.scores is not None and all(score is not None for row in self.scores for score in row)

    @cached_property
    def mean(self) -> "Interval | None":
        """The mean score over prompts with its t interval; None if fewer than two prompts have one."""
        return None if self.scores is None else _over_prompts(self.scores)

    def gain(self, start: "PreviewRecord | None") -> "Interval | None":
        """The mean difference to the scores of `start`, sample by sample, with its t interval over prompts."""
        if start is None or self.scores is None or start.scores is None or start.kind != self.kind:
            return None
        return _over_prompts(
            [
                [None if None in pair else pair[0] - pair[1] for pair in zip(*rows, strict=True)]
                for rows in zip(self.scores, start.scores, strict=True)
            ]
        )


@dataclass(frozen=True)
class Previews:
    """The previews of a run, by rising update, and how many lines of the index are damaged."""

    folder: Path
    all: tuple[PreviewRecord, ...] = ()
    damaged: int = 0

    def at(self, update: int) -> PreviewRecord | None:
        """The preview after `update` updates."""
        return next((one for one in self.all if one.update == update), None)

    def plus(self, preview: PreviewRecord) -> "Previews":
        """With one more, in place of another of its update."""
        others = [one for one in self.all if one.update != preview.update]
        return replace(self, all=tuple(sorted([*others, preview], key=lambda one: one.update)))

    @cached_property
    def scored(self) -> tuple[PreviewRecord, ...]:
        """Those whose scores can be compared with the newest ones."""
        newest = next((one for one in reversed(self.all) if one.mean is not None), None)
        return tuple(one for one in self.all if newest and one.mean is not None and one.kind == newest.kind)

    @property
    def start(self) -> PreviewRecord | None:
        """The scored preview of before the first update."""
        return next((one for one in self.scored if one.update == 0), None)

    def best(self, kept_alone: bool = True) -> PreviewRecord | None:
        """The scored preview with the highest mean, the earlier one of equals; the start and those that lack a score do
        not count. With `kept_alone` it is the best of those whose checkpoint is there."""
        found = [one for one in self.scored if one.update and one.complete]
        found = [one for one in found if not kept_alone or self.checkpoint(one).is_dir()]
        return max(found, key=lambda one: (one.mean.value, -one.update), default=None)

    def complaints(self) -> list[str]:
        """A line if the index is not as it was written."""
        lines = f"{counted(self.damaged, 'line')} of {self.folder / FOLDER / INDEX}"
        return [f"{lines} {'is' if self.damaged == 1 else 'are'} damaged and left out"] if self.damaged else []

    def checkpoint(self, preview: PreviewRecord) -> Path:
        """Where the checkpoint of that update is, if there is one."""
        return self.folder / CHECKPOINTS / checkpoint_name(preview.update)


def read_previews(folder: Path) -> Previews:
    """The previews of the run in `folder`; of several of one update the last."""
    found, damaged = {}, 0
    for line in read_lines(folder / FOLDER / INDEX):
        if is_intact(line):
            found[line["update"]] = _from_line(line)
        else:
            damaged += 1
    return Previews(folder, tuple(found[update] for update in sorted(found)), damaged)


def add_preview(folder: Path, preview: PreviewRecord) -> None:
    """Appends a line to the index, with a hash of its own."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    append_line(folder / FOLDER / INDEX, checked(json.loads(json.dumps(asdict(preview)))))


def rewind_previews(folder: Path, update: int) -> None:
    """Takes what was drawn after `update` out of the index: those updates are done again. So are lines that are
    damaged."""
    path = folder / FOLDER / INDEX
    lines = read_lines(path)
    kept = [line for line in lines if is_intact(line) and line["update"] <= update]
    if len(kept) < len(lines):
        save_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint, of those that are there, whose preview scored best."""
    previews = read_previews(folder)
    best = previews.best()
    return None if best is None else previews.checkpoint(best)


def score_metrics(preview: PreviewRecord, start: PreviewRecord | None) -> dict[str, float]:
    """The scalars of a scored preview; those of the difference to the start if it is scored alike."""
    found = {"preview_score": preview.mean, "preview_gain": preview.gain(start) if preview.update else None}
    return {
        f"{name}{suffix}": value
        for name, interval in found.items()
        if interval is not None
        for suffix, value in zip(("", "_low", "_high"), interval, strict=True)
    }


def score_text(preview: PreviewRecord, start: PreviewRecord | None) -> str:
    """The scores of a preview, or why there are none, in a line."""
    when = f"after update {preview.update}" if preview.update else "of the start"
    if preview.mean is None:
        return f"{preview.judge}: no score {when} ({preview.problem or 'fewer than two prompts have one'})"
    told = f"{preview.judge} {interval_text(preview.mean)} {when}"
    if preview.update and (gain := preview.gain(start)) is not None:
        told += f", {interval_text(gain, '+')} against the start's"
    return told if preview.problem is None else f"{told}; {preview.problem}"


def best_text(best: PreviewRecord, previews: Previews) -> str:
    """Which update scored best, and of how many; a maximum is no fair estimate, which is said."""
    rivals = [one for one in previews.scored if one.update and one.complete]
    told = f"{checkpoint_name(best.update)}, {interval_text(best.mean)}"
    if len(rivals) > 1:
        told += f", chosen as the best of {len(rivals)}, so likely too high"
    if previews.start is not None and previews.start.mean.value >= best.mean.value:
        told += "; no higher than the start"
    return told


def interval_text(interval: "Interval", sign: str = "") -> str:
    """An estimate with its bounds, to four digits; `sign` + for differences."""
    value, low, high = (f"{part:{sign}.4g}" for part in interval)
    return f"{value} ({low} to {high})"


def _over_prompts(scores: Sequence[Sequence[float | None]]) -> "Interval | None":
    """The mean of what there is of (prompts, seeds), each prompt counting once; None of fewer than two prompts."""
    rows = [[score for score in row if score is not None] for row in scores]
    means = [fmean(row) for row in rows if row]
    if len(means) < 2:
        return None
    # numpy is not to be imported by commands that only name a checkpoint
    from seppo_core.report.statistics import mean_interval

    return mean_interval(means)


def _from_line(line: Mapping[str, Any]) -> PreviewRecord:
    values = {key: value for key, value in line.items() if key != CHECK}
    drawing = Drawing(**values["drawing"] | {"prompts": tuple(values["drawing"]["prompts"])})
    scores = values["scores"] and tuple(tuple(row) for row in values["scores"])
    return PreviewRecord(**values | {"drawing": drawing, "scores": scores})
