"""Scores of previews. Whatever goes wrong with the judge costs the score of that preview and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from seppo_core.config.schema import Config
from seppo_core.judging.in_memory import Media, judge_frames
from seppo_core.judging.sample_judge import Keys, SampleJudge, open_judge
from seppo_core.report.wording import counted
from seppo_core.run.previews import Drawing, PreviewRecord
from seppo_core.training.preview import Rendered

KEYS = Keys("preview.judge", "preview.judge_column", "preview.judge_places")
SCRATCH = ".judged.tmp"
"""Folder in the run's of files for a judge that reads some; the name is that of what a start removes."""


class PreviewJudge:
    """The judge of a run's previews, which are drawn as `drawing` says."""

    def __init__(self, judge: SampleJudge, media: Media, drawing: Drawing, folder: Path):
        self.judge, self.media, self.drawing, self.folder = judge, media, drawing, folder

    @classmethod
    def open(cls, config: Config, media: Media, folder: Path, device: str) -> "PreviewJudge":
        """The judge that the config names. ValueError or FileNotFoundError if it cannot be had: nothing has begun yet
        that could be lost."""
        p = config.preview
        judge = open_judge(
            p.judge, media.kind, media.read, folder / "judge.log", column=p.judge_column, places=p.judge_places,
            device=device, keys=KEYS,
        )  # fmt: skip
        return cls(judge, media, Drawing.of(config), folder)

    def has_scored(self, preview: PreviewRecord) -> bool:
        """Whether this judge has given scores of what would be drawn now."""
        return (
            preview.scores is not None
            and preview.fingerprint == self.judge.fingerprint
            and preview.drawing == self.drawing
        )

    def scored(self, preview: PreviewRecord, drawn: Rendered, answered: Callable[[], None]) -> PreviewRecord:
        """`preview` with the scores of what was drawn; `answered` is called after each and may break off."""
        seeds = len(drawn.samples[0])
        asked = [(row, column) for row in range(len(drawn.samples)) for column in range(seeds)]
        whole = [one for one in asked if one not in drawn.broken]
        problem, found = None, {}
        try:
            scores = judge_frames(
                self.judge,
                [drawn.samples[row][column] for row, column in whole],
                [self.drawing.prompts[row] for row, _ in whole],
                [column for _, column in whole],
                self.media.write,
                self.folder / SCRATCH,
                lambda *_: answered(),
            )
            found = dict(zip(whole, scores, strict=True))
        # of a library or a process that is not ours: a run of days must not end for it
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        given = {one: score for one, score in found.items() if isinstance(score, float)}
        if problem is None and len(given) < len(asked):
            reasons = [score for score in found.values() if isinstance(score, str)]
            problem = next(iter(reasons), "its values are not finite")
            problem = f"{counted(len(asked) - len(given), 'sample')} of {len(asked)} without a score, e.g.: {problem}"
        return replace(
            preview,
            judge=self.judge.name,
            fingerprint=self.judge.fingerprint,
            scores=tuple(tuple(given.get((row, c)) for c in range(seeds)) for row in range(len(drawn.samples)))
            if given
            else None,
            problem=problem and " ".join(problem.split())[:300],
        )
