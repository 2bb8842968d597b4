"""The columns of a table that hold media, captions and verdicts, and what they say about a row."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seppo_core.config.method_specs import Supervision
from seppo_core.data.records import Media, find_file
from seppo_core.data.source import BadItem, LeftOut, is_text

CAPTIONS = ("caption", "text", "prompt")
"""Names the caption may go by, the first found wins; Hugging Face's image folders say `text`."""
VIDEO_ID = "videoid"
"""A column of file names without suffix, for files anywhere under the folder, as in ChronoMagic's tables."""
VIDEO_ID_CAPTIONS = ("name",)
_JUDGED = ("jpg", "image", "file_name", "video")
"""Pairs NAME_0, NAME_1 with a column label_0, as Pick-a-Pic has them."""
_RANKED = (("file_name", "loser_file_name"), ("winner", "loser"), ("chosen", "rejected"))
_SINGLE = (
    "file_name", "image", "jpg", "png", "webp", "video", "mp4", "path", VIDEO_ID,
    # as other tools and people call it
    "filename", "file_path", "filepath", "image_path", "img_path", "video_path", "image_file", "img", "file",
)  # fmt: skip
_MORE_CAPTIONS = ("captions", "texts", "prompts", "description", "tags")
"""Names that are looked for if none of `CAPTIONS` is there."""
NOISES = ("noise_key", "loser_noise_key")
"""Columns of `rank` with the key of the noise that a sample was drawn from, and the sample's size."""
_ADDRESSES = ("url", "image_url", "img_url", "video_url")


@dataclass(frozen=True)
class Columns:
    """`first` and `second` hold files or their bytes. `label` says of a pair whether the first won, else whether an
    item is good; a pair without it has the winner first."""

    first: str
    second: str | None
    label: str | None
    captions: tuple[str, ...]
    noises: tuple[str | None, str | None] = (None, None)
    """Columns with the noises that `rank` drew the first and the second from, if there are any."""

    @property
    def form(self) -> Supervision:
        return "pairs" if self.second is not None else "winners" if self.label is None else "labels"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(
            name for name in (self.first, self.second, self.label, *self.captions, *self.noises) if name is not None
        )

    def texts(self, row: dict, file: str) -> tuple[str, ...]:
        """The row's caption, or its captions if it has a list, without repeats. Raises BadItem if it has none."""
        found = next((row[name] for name in self.captions if row.get(name) is not None), None)
        if found is None:
            raise BadItem(file, f"no caption; looked for {', '.join(self.captions)}")
        captions = found if isinstance(found, list) else [found]
        for caption in captions:
            if not isinstance(caption, str):
                raise BadItem(file, f"caption {str(caption)[:40]!r} is not text")
            if not is_text(caption):
                raise BadItem(file, f"caption {caption[:40]!r} holds half a character (a lone surrogate)")
        texts = tuple(dict.fromkeys(caption.strip() for caption in captions if caption.strip()))
        if not texts:
            raise BadItem(file, "empty caption")
        return texts

    def noise(self, row: dict, half: int, file: str) -> dict | None:
        """What the row says of the noise that its first (0) or second (1) half was drawn from; BadItem if that is not
        what `rank` writes."""
        column = self.noises[half]
        found = None if column is None else row.get(column)
        if found is None:
            return None
        if not isinstance(found, dict) or not all(isinstance(found.get(name), list) for name in ("key", "size")):
            raise BadItem(file, f"{column} {str(found)[:40]!r} is not what rank writes")
        return {"key": found["key"], "size": found["size"]}

    def verdict(self, row: dict, file: str) -> bool:
        """Whether the first of a pair won, or whether an item is good; LeftOut for a tie, BadItem for anything else."""
        if self.label is None:
            return True
        value = label_value(row.get(self.label))
        if value == 0.5 and self.second is not None:
            raise LeftOut(file, "tie")
        if value not in (0, 1):
            allowed = "1, 0 or 0.5" if self.second is not None else "true or false, 1 or 0"
            raise BadItem(file, f"{self.label} {str(row.get(self.label))[:40]!r} is not {allowed}")
        return value == 1


def choose_columns(
    available: Iterable[str],
    where: str,
    *,
    first: str | None = None,
    second: str | None = None,
    label: str | None = None,
    caption: str | None = None,
) -> Columns:
    """The columns named, or those of the usual names among `available`. Raises ValueError if they are not there."""
    available = list(available)
    missing = [name for name in (first, second, label, caption) if name is not None and name not in available]
    if missing:
        raise ValueError(f"{where} has no column {', '.join(missing)}; it has {_listed(available)}")
    if first is None:
        first, found_second, found_label = _usual(available)
        second = found_second if second is None else second
        label = found_label if label is None else label
    if first is None and (address := _named(available, _ADDRESSES)) is not None:
        raise ValueError(
            f"{where} has addresses in the column {address} and no column with files; download them first, e.g. by "
            "img2dataset, or name the column with files as data.first_column"
        )
    if first is None:
        raise ValueError(
            f"{where} has the columns {_listed(available)}; it needs file_name, {', '.join(_SINGLE[1:9])}, or a pair "
            "such as jpg_0, jpg_1 and label_0; or name yours: data.first_column, second_column, label_column"
        )
    noises = tuple(
        name if half is not None and name in available else None
        for name, half in zip(NOISES, (first, second), strict=True)
    )
    return Columns(first, second, label, _captions(available, where, caption, first), noises)


def caption_columns(available: Iterable[str], where: str, caption: str | None = None) -> Columns:
    """The columns of captions alone: the one named, or those of the usual names. ValueError if there are none."""
    available = list(available)
    if caption is not None and caption not in available:
        raise ValueError(f"{where} has no column {caption}; it has {_listed(available)}")
    captions = _captions(available, where, caption, VIDEO_ID if VIDEO_ID in available else None)
    return Columns(captions[0], None, None, captions)


def media_of(value: object, root: Path, row: str, column: str) -> Media:
    """The media of a cell: bytes, Hugging Face's {bytes, path}, or the name of a file under `root`.

    Raises BadItem if it holds none of these, or names no file.
    """
    name = row
    if isinstance(value, dict):
        path = value.get("path")
        if value.get("bytes") is None:
            value = path
        else:
            value = value["bytes"]
            name = f"{row} {PurePosixPath(path).name}" if isinstance(path, str) and path else row
    if isinstance(value, bytes):
        return Media(name, value, len(value))
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadItem(row, f"no {column}")
    if not isinstance(value, str):
        raise BadItem(row, f"{column} {value!r:.40} is not text")
    return find_file(root, value)


def _captions(available: list[str], where: str, caption: str | None, first: str | None) -> tuple[str, ...]:
    usual = (*CAPTIONS, *(VIDEO_ID_CAPTIONS if first == VIDEO_ID else ()))
    captions = (caption,) if caption is not None else tuple(name for name in usual if name in available)
    if not captions and (other := _named(available, (*usual, *_MORE_CAPTIONS))) is not None:
        captions = (other,)
    if not captions:
        raise ValueError(
            f"{where} has the columns {_listed(available)}; it needs a caption in one of {', '.join(usual)}; or name "
            "yours: data.caption_column"
        )
    return captions


def label_value(value: object) -> float | None:
    """1, 0 or another number; None if it is none: tables say true, "True", "1", 1.0, NaN."""
    if isinstance(value, str):
        word = value.strip().lower()
        try:
            value = {"true": 1.0, "false": 0.0}[word] if word in ("true", "false") else float(word)
        except ValueError:
            return None
    if not isinstance(value, bool | int | float) or math.isnan(value):
        return None
    return float(value)


def _usual(available: list[str]) -> tuple[str | None, str | None, str | None]:
    if "label_0" in available:
        for name in _JUDGED:
            if f"{name}_0" in available and f"{name}_1" in available:
                return f"{name}_0", f"{name}_1", "label_0"
    for winner, loser in _RANKED:
        if winner in available and loser in available:
            return winner, loser, None
    single = _named(available, _SINGLE)
    return single, None, "label" if "label" in available and single is not None else None


def _named(available: list[str], names: tuple[str, ...]) -> str | None:
    """The first of `names` among `available`, or what differs from it in capitals, blanks and hyphens alone."""
    alike = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in reversed(available)}
    exact = next((name for name in names if name in available), None)
    return exact or next((alike[name] for name in names if name in alike), None)


def _listed(names: list[str]) -> str:
    return f"{names[:20]}{' …' if len(names) > 20 else ''}"
