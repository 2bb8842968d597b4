"""Samples of the policy at the start of an iteration, and what the judge of a run says of them.

Each answer is put down as it comes, so that neither a kill nor a judge that breaks has any asked for twice. What all
answers make of an iteration is written once, and holds until the iteration is over, whatever the judge would say later.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from seppo_core.io import purposes
from seppo_core.io.checked_json import read_checked, save_checked
from seppo_core.io.progress import progress_bar
from seppo_core.judging.in_memory import Media, judge_frames
from seppo_core.judging.sample_judge import SampleJudge
from seppo_core.methods.reference import Reference
from seppo_core.models.finite import is_finite
from seppo_core.models.pixels import to_frames
from seppo_core.report.wording import counted
from seppo_core.run.history import append_line, read_lines
from seppo_core.run.recorder import RunRecorder
from seppo_core.run.status import BUFFER, CANDIDATES
from seppo_core.run.stopping import StopCoordinator
from seppo_core.training.judged import Judged
from seppo_core.training.parallel import ParallelStrategy
from seppo_core.training.reference_samples import ReferenceSampler, ReferenceSamples
from seppo_core.training.sample_buffer import SampleBuffer
from seppo_core.training.setup import RunParts

ANSWERS, SCORES = "answers.jsonl", "scores.json"
"""In the folder of an iteration's samples: answers one by one, and the scores of all, by position."""
SCRATCH = ".loop-judged.tmp"
"""Folder in the run's of files for a judge that reads some; the name is that of what a start removes."""
LEAST = 2
"""Scores that the samples of a caption must have: one alone says nothing."""
PART_BYTES = 2**30
"""Bytes of frames that are in memory for the judge at once."""


class JudgedSamples:
    """Draws the samples of an iteration on all processes, and has them scored on the first, which holds `judge`: one
    judge is in memory, and the others wait for it.

    `count` is the number of samples of a caption, which lie one after the other in the order of `samples`; `positions`
    is the number of training positions of an iteration, `sample_bytes` the size of a sample's frames.
    """

    def __init__(
        self, samples: ReferenceSamples, judge: SampleJudge | None, media: Media, run: Path, *, count: int,
        positions: int, sample_bytes: int,
    ):  # fmt: skip
        self.samples, self.judge, self.media, self.run = samples, judge, media, run
        self.count, self.positions, self.sample_bytes = count, positions, sample_bytes

    def fill(
        self, iteration: int, policy: Reference, snapshot: str, stop: StopCoordinator, recorder: RunRecorder
    ) -> Judged:
        """Draws and scores those of the iteration's samples that are not yet, by `policy`; `snapshot` is the hash of
        its weights.

        ValueError in one line, on the first process, if the judge breaks or gives too few scores. Raises Stopped if a
        signal comes to any process. Answers are kept either way.
        """
        buffer = self.samples.fill(iteration, policy, snapshot, stop, recorder)
        ranks = self.samples.ranks
        if ranks.run_on_main(lambda: self._scores(buffer)) is None:
            with stop.independent():
                if ranks.is_main:
                    started = time.perf_counter()
                    with stop.at_once():
                        asked = self._judge(buffer, stop)
                    judged = self._judged(buffer, self._scores(buffer), iteration)
                    told = f"{self.judge.name} on the samples for iteration {iteration}: " + "  ".join(
                        f"{name} {value:.4g}" for name, value in judged.metrics().items()
                    )
                    recorder.judged(iteration, asked, time.perf_counter() - started, told)
        # as one process sees it, for a network file system may show the others something else
        return self._judged(buffer, ranks.run_on_main(lambda: self._scores(buffer)), iteration)

    def remove(self) -> None:
        """Removes used-up samples with their scores."""
        self.samples.remove()

    def _judged(self, buffer: SampleBuffer, scores: list[float | None], iteration: int) -> Judged:
        values = torch.tensor([torch.nan if one is None else one for one in scores], dtype=torch.float64)
        return Judged(buffer, values.view(-1, self.count), iteration * self.positions)

    def _about(self, buffer: SampleBuffer) -> str:
        return f"{buffer.made_by} {self.judge.fingerprint}"

    def _scores(self, buffer: SampleBuffer) -> list[float | None] | None:
        """The iteration's scores, in order; None if they are not all there. For the first process."""
        try:
            found = read_checked(buffer.folder / SCORES)
        except (FileNotFoundError, ValueError):
            return None
        return found["scores"] if found["of"] == self._about(buffer) else None

    def _answers(self, buffer: SampleBuffer) -> dict[int, float]:
        """The scores that were given already, by position."""
        path, of = buffer.folder / ANSWERS, self._about(buffer)
        lines = read_lines(path)
        if lines and lines[0].get("of") != of:
            path.unlink()
            lines = []
        if not lines:
            append_line(path, {"of": of})
        return {line["sample"]: line["score"] for line in lines if "score" in line}

    def _judge(self, buffer: SampleBuffer, stop: StopCoordinator) -> int:
        """Has those scored that have no score yet, and writes down the scores of all; how many were asked for."""
        found = self._answers(buffer)
        asked, path = 0, buffer.folder / ANSWERS
        # a kill may have broken off the last line
        whole = path.read_bytes().endswith(b"\n")
        size = buffer.stop - buffer.start
        with (
            path.open("a", encoding="utf-8") as lines,
            progress_bar(size, unit="sample", description=self.judge.name) as bar,
        ):
            lines.write("" if whole else "\n")
            bar.update(len(found))
            for part in self._parts(buffer):
                reasons: dict[int, str] = {}

                def note(position: int, score: float | str, reasons: dict[int, str] = reasons) -> None:
                    if isinstance(score, str):
                        reasons[position] = score
                        return
                    found[position] = score
                    lines.write(json.dumps({"sample": position, "score": score}) + "\n")
                    lines.flush()
                    bar.update(1)
                    stop.check_alone()

                left = [position for position in part if position not in found]
                if left:
                    self._ask(buffer, left, note)
                    asked += len(left)
                self._check(part, found, reasons, buffer)
        scores = [found.get(position) for position in range(buffer.start, buffer.stop)]
        save_checked(buffer.folder / SCORES, {"of": self._about(buffer), "scores": scores})
        return asked

    def _parts(self, buffer: SampleBuffer) -> Iterator[range]:
        """Positions whose frames fit in memory together, those of a caption in one part."""
        size = max(1, PART_BYTES // self.sample_bytes // self.count) * self.count
        for first in range(buffer.start, buffer.stop, size):
            yield range(first, min(first + size, buffer.stop))

    def _ask(self, buffer: SampleBuffer, positions: list[int], note: Callable[[int, float | str], None]) -> None:
        frames, asked = [], []
        chunk = self.samples.chunk
        for first in range(0, len(positions), chunk):
            places = positions[first : first + chunk]
            pixels = self._decoded(buffer.read(places))
            for place, values, shown in zip(places, pixels, to_frames(pixels.nan_to_num(0.0)), strict=True):
                if is_finite(values):
                    frames.append(shown)
                    asked.append(place)
                else:
                    note(place, "its values are not finite")
        prompts = [self.samples.sampler.captions(range(place, place + 1))[0] for place in asked]
        try:
            judge_frames(
                self.judge, frames, prompts, asked, self.media.write, self.run / SCRATCH,
                lambda number, score: note(asked[number], score),
            )  # fmt: skip
        except RuntimeError as error:
            # of a process or a library that is not ours
            raise ValueError(self._broken(" ".join(str(error).split()), buffer)) from error

    @torch.no_grad()
    def _decoded(self, latents: Tensor) -> Tensor:
        adapter = self.samples.sampler.adapter
        with self.samples.layout.accelerator.autocast():
            return adapter.decode(latents.to(self.samples.sampler.device)).float().cpu()

    def _check(self, part: range, found: dict[int, float], reasons: dict[int, str], buffer: SampleBuffer) -> None:
        """ValueError if a caption of `part` has too few scores to choose by."""
        for first in range(part.start, part.stop, self.count):
            scored = sum(position in found for position in range(first, first + self.count))
            if scored < LEAST:
                caption = self.samples.sampler.captions(range(first, first + 1))[0]
                reason = next((reasons[p] for p in range(first, first + self.count) if p in reasons), "no answer")
                told = f"{scored} of {counted(self.count, 'sample')} of {caption[:60]!r} has a score ({reason})"
                raise ValueError(self._broken(told, buffer))

    def _broken(self, told: str, buffer: SampleBuffer) -> str:
        given = counted(len(self._answers(buffer)), "score")
        return (
            f"loop.judge {self.judge.name}: {told}; mend it, and the same command goes on: samples and {given} are "
            f"kept in {buffer.folder}"
        )


def judged_samples(parts: RunParts, layout: ParallelStrategy, sampler: ReferenceSampler) -> JudgedSamples:
    """What draws and scores the samples of a run; `sampler` draws those of its reference, in the order of training."""
    loop, data, spec = parts.config.loop, parts.config.data, parts.config.method.spec
    # of each position's caption there are several, or each position is one of several of a caption in a row
    order = sampler.order.of_each(loop.judge_samples) if spec.pairs_candidates else sampler.order
    samples = ReferenceSamples(
        parts.folder / BUFFER / CANDIDATES, layout, replace(sampler, order=order, purpose=purposes.CANDIDATE),
        size=loop.candidates(spec), chunk=sampler.settings.batch_size,
    )  # fmt: skip
    return JudgedSamples(
        samples, parts.loop_judge, parts.media, parts.folder, count=loop.judge_samples,
        positions=loop.updates_per_iteration * loop.batch_size, sample_bytes=3 * data.height * data.width * data.frames,
    )  # fmt: skip
