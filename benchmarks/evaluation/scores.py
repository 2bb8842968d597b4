"""Scores on disk: by metric and its fingerprint, keyed by the sample, the prompt and the reference."""

import re
from pathlib import Path

from benchmarks.evaluation.lines import LineWriter, Shard, read_lines
from seppo_core.io.atomic import save_json
from seppo_core.judging.columns import Score

STEM = "scores"


def score_key(sample: str, prompt_mark: str, reference: str | None) -> str:
    """What a score depends on beside the metric."""
    return f"{sample} {prompt_mark} {reference or '-'}"


class ScoreStore:
    """The scores of one metric with one fingerprint, under `folder/<metric>@<fingerprint>/`."""

    def __init__(self, folder: Path, metric: str, fingerprint: str):
        slug = re.sub(r"[^\w.,=-]+", "_", metric).strip("_")
        self.folder = folder / f"{slug}@{fingerprint[:12]}"
        self.metric, self.fingerprint = metric, fingerprint
        self.scores: dict[str, Score] = {}
        for line in read_lines(self.folder, STEM):
            self.scores[line["key"]] = Score(line.get("values") or {}, line.get("reason"))

    def writer(self, about: dict[str, object], shard: Shard | None) -> "ScoreWriter":
        """A file to add scores to; `about` says in judge.json what they depend on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "judge.json").exists():
            save_json(self.folder / "judge.json", {"fingerprint": self.fingerprint, **about})
        return ScoreWriter(self, shard)


class ScoreWriter(LineWriter):
    """Adds scores to a store and to its file."""

    def __init__(self, store: ScoreStore, shard: Shard | None):
        super().__init__(store.folder, STEM, shard)
        self.store = store

    def add(self, key: str, score: Score) -> None:
        self.write(
            {"key": key, "values": score.values} if score.reason is None else {"key": key, "reason": score.reason}
        )
        self.store.scores[key] = score
