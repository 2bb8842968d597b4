"""The attributes of toy pictures and clips, their captions, and which captions are held out."""

from itertools import product
from typing import Literal

Modality = Literal["image", "video"]

COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan")
ATTRIBUTES: dict[Modality, dict[str, tuple[str, ...]]] = {
    "image": {
        "colour": COLOURS,
        "shape": ("circle", "square", "triangle", "cross", "ring"),
        "background": ("black", "grey", "white", "brown"),
        "size": ("small", "large"),
    },
    "video": {
        "colour": COLOURS,
        "shape": ("circle", "square", "triangle"),
        "direction": ("left", "right"),
        "background": ("black", "grey", "white", "brown"),
    },
}
TEMPLATES: dict[Modality, str] = {
    "image": "a {size} {colour} {shape} on {background}",
    "video": "a {colour} {shape} moving {direction} on {background}",
}
# One value of the second attribute is held out for every choice of the others: 48 of 240 image captions, 48 of 144
# video captions. Every single value and nearly every pair stays in training, so that held-out captions ask for known
# things put together anew.
FOLDS: dict[Modality, int] = {"image": 5, "video": 3}


def names(modality: Modality) -> tuple[str, ...]:
    """Names of the attributes, in the order of the index tuples."""
    return tuple(ATTRIBUTES[modality])


def sizes(modality: Modality) -> tuple[int, ...]:
    """How many values each attribute has."""
    return tuple(len(values) for values in ATTRIBUTES[modality].values())


def text(modality: Modality, indices: tuple[int, ...]) -> str:
    """The caption of one choice of values, given by index in the order of `names`."""
    chosen = {n: values[i] for (n, values), i in zip(ATTRIBUTES[modality].items(), indices, strict=True)}
    return TEMPLATES[modality].format(**chosen)


def _table(modality: Modality) -> dict[str, tuple[int, ...]]:
    return {text(modality, indices): indices for indices in product(*map(range, sizes(modality)))}


_TABLES: dict[Modality, dict[str, tuple[int, ...]]] = {"image": _table("image"), "video": _table("video")}


def indices(modality: Modality, caption: str) -> tuple[int, ...]:
    """Reads a caption back into attribute indices.

    Raises ValueError for a caption that is not one of the task's.
    """
    found = _TABLES[modality].get(caption)
    if found is None:
        raise ValueError(f"{caption!r} is no {modality} caption of the toy task; captions read {TEMPLATES[modality]!r}")
    return found


def _is_held_out(modality: Modality, chosen: tuple[int, ...]) -> bool:
    return sum(chosen) % FOLDS[modality] == 0


def all_captions(modality: Modality) -> list[str]:
    """Every caption, training and held out, in a fixed order."""
    return list(_TABLES[modality])


def train_captions(modality: Modality) -> list[str]:
    """Captions that base training and the winners may use."""
    return [caption for caption, chosen in _TABLES[modality].items() if not _is_held_out(modality, chosen)]


def held_out(modality: Modality) -> list[str]:
    """Captions that no training ever sees; scores are reported on these."""
    return [caption for caption, chosen in _TABLES[modality].items() if _is_held_out(modality, chosen)]
