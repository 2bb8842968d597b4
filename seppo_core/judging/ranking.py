"""From scored samples of one prompt each to a table of winners, pairs or labelled items."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seppo_core.config.method_specs import Ranking


class Scored(NamedTuple):
    """A sample's file, relative to the table, with its prompt, seed and score; `noise` is what the table says of the
    noise that it was drawn from, if anything."""

    file: str
    prompt: str
    seed: int
    score: float
    noise: Mapping[str, Any] | None = None


class Ranked(NamedTuple):
    """The rows of the table, and the prompts that gave none with the reason."""

    rows: list[dict[str, Any]]
    left_out: dict[str, str]


def rank(scored: Sequence[Scored], supervision: Ranking, min_gap: float = 0.0) -> Ranked:
    """Ranks each prompt's samples by score, the earlier seed first where scores are equal.

    `winners` takes the best, `pairs` the best and the worst, `labels` both of these as good and bad. A prompt with
    fewer than two scores, or whose best is not above its worst by more than `min_gap`, says nothing and is left out.
    """
    by_prompt: dict[str, list[Scored]] = {}
    for one in scored:
        by_prompt.setdefault(one.prompt, []).append(one)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for prompt, samples in by_prompt.items():
        order = sorted(samples, key=lambda one: (-one.score, one.seed))
        best, worst = order[0], order[-1]
        if len(order) < 2:
            left_out[prompt] = "only one sample has a score"
        elif not best.score - worst.score > min_gap:
            left_out[prompt] = f"best and worst differ by {best.score - worst.score:g}"
        elif supervision == "labels":
            rows += [_row(best) | {"label": 1}, _row(worst) | {"label": 0}]
        elif supervision == "pairs":
            rows.append(_row(best) | {f"loser_{key}": value for key, value in _row(worst).items() if key != "caption"})
        else:
            rows.append(_row(best))
    return Ranked(rows, left_out)


def _row(one: Scored) -> Mapping[str, Any]:
    told = {} if one.noise is None else {"noise_key": one.noise}
    return {"file_name": one.file, "caption": one.prompt, "score": one.score, "seed": one.seed} | told
