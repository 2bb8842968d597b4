"""How many captions are longer than what a tokenizer keeps of them, counted while they are encoded. Without torch."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class CutCaptions:
    """What one tokenizer does to the captions."""

    tokenizer: str
    """Its name in the pipeline."""
    limit: int
    """Tokens that it keeps, marks of beginning and end and a pipeline's instruction among them."""
    captions: int
    cut: int
    """Number of the captions that have more tokens."""
    tokens: int = 0
    """Tokens of the longest of those."""
    longest: str = ""
    """The longest of those; in a manifest, the file that has it as its caption."""


def joined(counts: Iterable[CutCaptions]) -> list[CutCaptions]:
    """The counts of several lots of captions as one of each tokenizer."""
    found: dict[str, CutCaptions] = {}
    for one in counts:
        before = found.get(one.tokenizer)
        if before is not None:
            longer = one if one.tokens > before.tokens else before
            one = replace(longer, captions=before.captions + one.captions, cut=before.cut + one.cut)
        found[one.tokenizer] = one
    return list(found.values())


def cut_text(counts: Iterable[CutCaptions]) -> list[str]:
    """A line for each limit that cuts captions; tokenizers that cut alike share one."""
    alike: dict[CutCaptions, list[str]] = {}
    for one in counts:
        if one.cut:
            alike.setdefault(replace(one, tokenizer=""), []).append(one.tokenizer)
    return [
        f"{one.cut:,} of {one.captions:,} captions {_lose(one.cut)} after {one.limit:,} tokens "
        f"({' and '.join(names)}); the longest, of {one.longest}, has {one.tokens:,}"
        for one, names in alike.items()
    ]


def _lose(count: int) -> str:
    return "loses its end" if count == 1 else "lose their ends"


def as_json(counts: Iterable[CutCaptions]) -> list[dict]:
    return [asdict(one) for one in counts]


def from_json(stored: Iterable[dict]) -> list[CutCaptions]:
    return [CutCaptions(**one) for one in stored]


def of_cache(folder: Path) -> list[str]:
    """`cut_text` of a finished cache; nothing if there is none, or if it was written before this was counted."""
    try:
        return cut_text(from_json(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["cut_captions"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []
