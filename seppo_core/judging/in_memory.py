"""Has samples judged that are in memory and nowhere else: previews, and what is drawn within training."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from seppo_core.judging.columns import Kind
from seppo_core.judging.sample_judge import DrawnSample, ReadFrames, SampleJudge


@dataclass(frozen=True)
class Media:
    """How samples of a modality become files without loss, and are read again."""

    kind: Kind
    write: Callable[[Path, UInt8[Tensor, "f h w 3"]], Path]
    """Writes frames as a file that is named after a stem, and returns the file's path."""
    read: ReadFrames


def judge_frames(
    judge: SampleJudge,
    frames: Sequence[UInt8[Tensor, "f h w 3"]],
    prompts: Sequence[str],
    seeds: Sequence[int],
    write: Callable[[Path, UInt8[Tensor, "f h w 3"]], Path],
    scratch: Path,
    answered: Callable[[int, float | str], None] = lambda number, score: None,
) -> list[float | str]:
    """The score of each sample in order, or the reason why it has none.

    A judge that reads files gets them in the new folder `scratch`, which is removed afterwards. `answered` is called
    after every answer, with the number of the sample and the answer, and may raise to break off. RuntimeError if the
    judge answers nothing at all.
    """
    found: dict[int, float | str] = {}
    try:
        samples = []
        for number, (one, prompt, seed) in enumerate(zip(frames, prompts, seeds, strict=True)):
            file = scratch / f"{number:05d}"
            samples.append(DrawnSample(write(file, one) if judge.reads_files else file, prompt, seed, one))
        numbers = {sample.file: number for number, sample in enumerate(samples)}

        def add(sample: DrawnSample, score: float | str) -> None:
            found[numbers[sample.file]] = score
            answered(numbers[sample.file], score)

        with torch.no_grad():
            judge.score(samples, add)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [found.get(number, "the judge said nothing of it") for number in range(len(samples))]
