"""From the CSV files of judges to win rates with intervals; the files are untrusted and read with care."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.evaluation.human.pairs import Pair, Study
from seppo_core.report.statistics import Interval, share_interval, sign_flip_test, wilson_interval

CHOICES = ("left", "same", "right")
HEADER = ["study", "judge", "pair", "choice", "seconds", "at"]


@dataclass(frozen=True)
class Vote:
    judge: str
    pair: str
    choice: str


@dataclass(frozen=True)
class Comparison:
    """How often `first` was preferred to `second`; a vote for neither counts half."""

    first: str
    second: str
    votes: int
    wins: int
    ties: int
    losses: int
    pairs: int
    judges: int
    win_rate: Interval
    p: float | None
    """Two-sided, for one half; None if there is a single pair."""
    agreement: float | None
    """Share of two judges of one pair that chose alike; None if no pair had two."""


@dataclass(frozen=True)
class Count:
    """All of a study's comparisons, what could not be counted, and a look at whether a side was preferred."""

    study: Study
    comparisons: list[Comparison]
    rejected: list[str]
    left: Interval | None
    """Share of left among the votes for a side: far from one half, judges did not look."""
    judges: dict[str, int]


def read_votes(files: Sequence[Path], study: Study) -> tuple[list[Vote], list[str]]:
    """Votes of a study, a judge's last one on a pair by its time `at`, and one line for every row that is not counted.

    Browsers save a later file of one name as "name (1).csv", which sorts before it; so the order of `files` decides
    only between votes of one time, or of times that cannot be read, which count as older than all others.

    Raises FileNotFoundError for a file that is not there, ValueError for one that is not a file of votes.
    """
    known = {pair.id for pair in study.pairs}
    votes: dict[tuple[str, str], tuple[datetime, Vote]] = {}
    rejected = []
    for file in files:
        try:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                rows = list(csv.reader(stream))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{file} cannot be read as CSV: {error}") from error
        if not rows or rows[0] != HEADER:
            raise ValueError(f"{file} is not a file of votes; its first line should be {','.join(HEADER)}")
        for line, row in enumerate(rows[1:], start=2):
            reason = _problem(row, study.id, known)
            if reason is not None:
                rejected.append(f"{file.name}, line {line}: {reason}")
                continue
            judge, pair, choice = row[1].strip(), row[2], row[3]
            voted = _time(row[5])
            before = votes.get((judge, pair))
            if before is not None and before[1].choice != choice:
                newer = "this, the later one," if voted >= before[0] else "the other, which is later,"
                rejected.append(f"{file.name}, line {line}: {judge!r} voted on {pair} twice; {newer} counts")
            if before is None or voted >= before[0]:
                votes[judge, pair] = voted, Vote(judge, pair, choice)
    return [vote for _, vote in votes.values()], rejected


def count_votes(study: Study, votes: Sequence[Vote], rejected: Sequence[str] = ()) -> Count:
    """Win rates of every two models. The unit is the pair: votes of several judges on it are not independent.

    One vote per pair gives Wilson's interval; several votes are clusters, one a pair (`share_interval`).
    """
    pairs = {pair.id: pair for pair in study.pairs}
    by_models: dict[frozenset[str], list[Vote]] = defaultdict(list)
    for vote in votes:
        pair = pairs[vote.pair]
        by_models[frozenset((pair.left, pair.right))].append(vote)
    comparisons = [
        _compare(second, first, by_models[frozenset((first, second))], pairs)
        for first, second in combinations(study.models, 2)
        if by_models[frozenset((first, second))]
    ]
    sides = [vote.choice for vote in votes if vote.choice != "same"]
    left = wilson_interval(sides.count("left"), len(sides)) if sides else None
    judges: dict[str, int] = defaultdict(int)
    for vote in votes:
        judges[vote.judge] += 1
    return Count(study, comparisons, list(rejected), left, dict(judges))


def _time(text: str) -> datetime:
    """When a vote was cast; the beginning of time if `text` does not say."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _problem(row: list[str], study: str, known: set[str]) -> str | None:
    if len(row) != len(HEADER):
        return f"{len(row)} columns, {len(HEADER)} expected"
    if row[0] != study:
        return f"of another study, {row[0][:20]!r}"
    if row[2] not in known:
        return f"no pair {row[2][:20]!r} in this study"
    if row[3] not in CHOICES:
        return f"choice {row[3][:20]!r} is not {', '.join(CHOICES)}"
    return None if row[1].strip() else "no judge"


def _compare(first: str, second: str, votes: Sequence[Vote], pairs: dict[str, Pair]) -> Comparison:
    points: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        points[vote.pair].append(_points(vote.choice, pairs[vote.pair], first))
    every = [point for found in points.values() for point in found]
    means = np.array([np.mean(found) for found in points.values()])
    if len(every) == len(points):
        rate = wilson_interval(float(sum(every)), len(every))
    else:
        rate = share_interval(means, np.ones(len(means)), trials=len(every))
    alike = [a == b for found in points.values() for a, b in combinations(found, 2)]
    return Comparison(
        first,
        second,
        len(every),
        every.count(1.0),
        every.count(0.5),
        every.count(0.0),
        len(points),
        len({vote.judge for vote in votes}),
        rate,
        sign_flip_test(means - 0.5) if len(means) > 1 else None,
        float(np.mean(alike)) if alike else None,
    )


def _points(choice: str, pair: Pair, model: str) -> float:
    if choice == "same":
        return 0.5
    return float((pair.left if choice == "left" else pair.right) == model)
