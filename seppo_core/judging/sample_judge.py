"""Judges of drawn samples, whatever they are: a scorer of the product, a Python function, or a process of its own.

All of them answer the same question, one number a sample, more being better.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from inspect import signature
from math import isfinite
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from seppo_core.io.lazy import import_object
from seppo_core.judging.base import Scorer
from seppo_core.judging.catalogue import SCORERS, load_scorer, parse_locations
from seppo_core.judging.columns import Column, Kind, Score
from seppo_core.judging.external.process import Ask, judge_all
from seppo_core.judging.external.spec import Plugin, describe, parse_plugins

AT_ONCE = 16
"""Samples that are in memory together."""

ReadFrames = Callable[[Path], UInt8[Tensor, "f h w 3"]]
"""Reads a sample's file; one frame for a picture."""


class Keys(NamedTuple):
    """How the options are called that name the judge, its column and its files, for messages."""

    judge: str
    column: str
    places: str


RANK_KEYS = Keys("--judge", "--column", "--places")


@dataclass(frozen=True)
class DrawnSample:
    """A file with the prompt and the seed that it was drawn with; `frames` if what it holds is in memory."""

    file: Path
    prompt: str
    seed: int
    frames: UInt8[Tensor, "f h w 3"] | None = None


class SampleJudge(ABC):
    """Scores samples, more is better. `fingerprint` changes with whatever the numbers depend on."""

    name: str
    fingerprint: str
    reads_files: bool = False
    """Whether the files of the samples must be there; else their frames are enough."""

    @abstractmethod
    def score(self, samples: Sequence[DrawnSample], add: Callable[[DrawnSample, float | str], None]) -> None:
        """Calls `add` once for every sample, in any order, with its score or the reason why there is none.

        RuntimeError if the judge answers nothing at all.
        """


class _InProcess(SampleJudge, ABC):
    """A judge that is called on pixels, on one sample again if it fails on several."""

    def __init__(self, read: ReadFrames):
        self.read = read

    @abstractmethod
    def values(self, frames: list[UInt8[Tensor, "f h w 3"]], prompts: list[str]) -> list[float]:
        """One number a sample."""

    def score(self, samples, add):
        for start in range(0, len(samples), AT_ONCE):
            for one in self._part(samples[start : start + AT_ONCE]):
                add(*one)

    def _part(self, samples: Sequence[DrawnSample]) -> list[tuple[DrawnSample, float | str]]:
        try:
            frames = [self.read(one.file) if one.frames is None else one.frames for one in samples]
            found = self.values(frames, [one.prompt for one in samples])
            if len(found) != len(samples):
                raise ValueError(f"the judge {self.name} gave {len(found)} scores for {len(samples)} samples")
        # one sample that a judge fails on must not take the others with it
        except Exception as error:
            if len(samples) > 1:
                return [one for sample in samples for one in self._part([sample])]
            return [(samples[0], f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")]
        return [
            (sample, value if isfinite(value) else f"the score is {value}")
            for sample, value in zip(samples, found, strict=True)
        ]


class ScorerJudge(_InProcess):
    """A scorer of pictures; a clip's score is the mean over its frames.

    It is on `device` only while it scores, and stays where it is if there is no room for it.
    """

    def __init__(self, name: str, scorer: Scorer, read: ReadFrames, device: str | torch.device = "cpu"):
        super().__init__(read)
        self.name, self.scorer, self.device = name, scorer, torch.device(device)
        self.fingerprint = scorer.fingerprint()

    def score(self, samples, add):
        home = self.scorer.device
        try:
            try:
                self.scorer.to(self.device)
            except torch.OutOfMemoryError:
                self.scorer.to(home)
            super().score(samples, add)
        finally:
            self.scorer.to(home)

    def values(self, frames, prompts):
        pictures = [rearrange(frame, "h w c -> c h w") for clip in frames for frame in clip]
        texts = [prompt for clip, prompt in zip(frames, prompts, strict=True) for _ in clip]
        lengths = [len(clip) for clip in frames]
        # all samples of one call have one size
        scores = self.scorer.score(torch.stack(pictures), texts).double()
        return [part.mean().item() for part in scores.split(lengths)]


class FunctionJudge(_InProcess):
    """A Python function of pixels and prompts: `function(pixels, prompts)` gives one number a sample.

    `pixels` are floating point in [-1, 1], (n, 3, h, w) of pictures and (n, 3, f, h, w) of clips.
    """

    def __init__(self, place: str, kind: Kind, read: ReadFrames, keys: Keys = RANK_KEYS):
        super().__init__(read)
        try:
            self.function = import_object(place)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"{keys.judge} {place} cannot be imported ({error}); give module:function, of a module "
                "that is installed or lies in a folder of PYTHONPATH"
            ) from error
        if (why := _uncallable(self.function)) is not None:
            raise ValueError(f"{keys.judge} {place} {why}; give a function of pixels and prompts")
        self.name, self.kind = place, kind
        code = getattr(self.function, "__code__", None)
        self.fingerprint = sha256(f"{place} {'' if code is None else _content(code)}".encode()).hexdigest()

    def values(self, frames, prompts):
        pixels = rearrange(torch.stack(frames).float() / 127.5 - 1, "n f h w c -> n c f h w")
        return [float(value) for value in self.function(pixels[:, :, 0] if self.kind == "image" else pixels, prompts)]


def _uncallable(function: object) -> str | None:
    """Why something cannot be called with pixels and prompts; None if nothing speaks against it."""
    if not callable(function):
        return f"is a {type(function).__name__}"
    try:
        signature(function).bind(None, None)
    except TypeError as error:
        return f"cannot be called with two values ({error})"
    except ValueError:
        # of a function that is not Python's and does not tell
        return None
    return None


def _content(constant: object) -> str:
    """What a function's code holds, the same in every process: instructions, and the names and constants in them."""
    if isinstance(constant, CodeType):
        return repr([constant.co_code.hex(), constant.co_names, [_content(one) for one in constant.co_consts]])
    if isinstance(constant, tuple | frozenset):
        parts = [_content(one) for one in constant]
        return repr(parts if isinstance(constant, tuple) else sorted(parts))
    return repr(constant)


class ProcessJudge(SampleJudge):
    """A judge in a process of its own; `column` names the one that counts if it has several."""

    reads_files = True

    def __init__(self, plugin: Plugin, kind: Kind, column: str | None, log: Path, keys: Keys = RANK_KEYS):
        self.name, self.plugin, self.kind, self.log = plugin.name, plugin, kind, log
        described = describe(plugin, kind)
        self.fingerprint = described.fingerprint
        self.column = _one_column(plugin.name, described.columns, column, keys)
        # the judge's own names of its columns, in the order of `described.columns`
        self.own_names = dict(zip(described.about["columns"], (c.name for c in described.columns), strict=True))

    def score(self, samples, add):
        asked = {str(number): sample for number, sample in enumerate(samples)}
        asks = [Ask(key, one.file.absolute(), one.prompt, one.seed, self.kind) for key, one in asked.items()]

        def note(key: str, score: Score) -> None:
            if score.values:
                add(asked[key], self.column.better * score.values[self.column.name])
            else:
                add(asked[key], score.reason or "the judge gave no score")

        judge_all(self.plugin, asks, self.own_names, self.log, note)


def _one_column(name: str, columns: Sequence[Column], chosen: str | None, keys: Keys) -> Column:
    names = ", ".join(column.name for column in columns)
    if chosen is None and len(columns) > 1:
        raise ValueError(f"{keys.judge} {name} has the columns {names}; say which one counts with {keys.column}")
    found = columns[0] if chosen is None else next((one for one in columns if one.name == chosen), None)
    if found is None:
        raise ValueError(f"{keys.column} {chosen} is not one of the columns {names} of {name}")
    return found


def open_judge(
    judge: str,
    kind: Kind,
    read: ReadFrames,
    log: Path,
    *,
    column: str | None = None,
    places: Sequence[str] = (),
    device: str | torch.device = "cpu",
    keys: Keys = RANK_KEYS,
) -> SampleJudge:
    """The judge that `judge` names: a scorer's column (hps_v2.1), module:function, or NAME=COMMAND of a process.

    `places` are items METRIC.PART=PLACE with a file, folder or hub id per part of a scorer, which is on `device` while
    it scores and else on the CPU. A process writes its words into `log`. Raises ValueError for a judge or a column that
    does not exist, FileNotFoundError for weights that are not there; messages call the options by `keys`.
    """
    located = parse_locations(places, keys.places, SCORERS)
    if unused := sorted(located.keys() - {judge}):
        raise ValueError(f"{keys.places} names files of {unused[0]}, but {keys.judge} is {judge}; leave them out")
    if "=" in judge:
        return ProcessJudge(parse_plugins([judge])[0], kind, column, log, keys)
    if column is not None:
        raise ValueError(f"{keys.column} {column} is for judges with several columns; {judge} has one, leave it out")
    if ":" in judge.partition("[")[0]:
        return FunctionJudge(judge, kind, read, keys)
    try:
        scorer = load_scorer(judge, places=located.get(judge))
    except FileNotFoundError as error:
        told = f"{keys.judge} {judge}: {error}; it is named with {keys.places} {judge}.PART=FILE_OR_FOLDER"
        raise FileNotFoundError(told) from error
    return ScorerJudge(judge, scorer, read, device)
