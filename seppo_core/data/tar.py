"""webdataset tars: members with one key are one sample, found by an index of the members' offsets."""

import json
import re
from array import array
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seppo_core.config.method_specs import Supervision
from seppo_core.data.columns import CAPTIONS, Columns
from seppo_core.data.problems import Problems
from seppo_core.data.records import FixedFile, Media, Record, Records, Span
from seppo_core.data.retry import is_transient, retry_io
from seppo_core.data.source import BadItem
from seppo_core.data.tar_index import Gap, Member, TarDamage, read_members
from seppo_core.io.hashing import hash64, repeats

MEDIA = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "mp4", "webm", "mkv", "mov", "avi")
TEXTS = ("txt", "caption", "cls")
MAX_TEXT = 1024**2
"""Bytes of a caption or of a JSON file."""
_NAME = re.compile(r"(?:\./)?((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
"""Key and extension as webdataset splits them: at the first dot of the file's name."""
_SUFFIXES = "|".join(MEDIA)
_HALF = re.compile(rf"(?P<n>[01])\.(?:{_SUFFIXES})|(?:{_SUFFIXES})_(?P<m>[01])")


class _Member(NamedTuple):
    extension: str
    span: Span


class TarRecords(Records):
    """Samples of `shards`, in order: KEY.jpg or KEY.mp4, with its caption in KEY.txt, KEY.json or KEY.cls.

    Pairs are KEY.0.jpg and KEY.1.jpg with label_0 in KEY.json; a `label` there makes items good or bad. Which it is the
    first sound sample decides. `caption` and `label` name other keys of the JSON.

    One pass over the headers when it is opened; then 18 bytes of memory a member and about 30 a sample. A member that
    is refused is a bad row of its own, as are damage between members and the rest of a tar that is cut off.
    """

    def __init__(self, shards: Sequence[tuple[str, Path]], caption: str | None = None, label: str | None = None):
        self.files = tuple(path for _, path in shards)
        self._names = tuple(name for name, _ in shards)
        self._fixed = tuple(FixedFile.of(path) for path in self.files)
        self._captions, self._label = (CAPTIONS if caption is None else (caption,)), label
        self.problems = Problems()
        index = _Index(self.problems)
        for number, path in enumerate(self.files):
            index.add(number, self._names[number], path)
        self._extensions = tuple(index.extensions)
        self._shard = np.frombuffer(index.shard, dtype=np.int32)
        self._first = np.append(np.frombuffer(index.first, dtype=np.int64), len(index.start))
        self._start, self._size = (np.frombuffer(a, dtype=np.int64) for a in (index.start, index.size))
        self._extension = np.frombuffer(index.extension, dtype=np.uint16)
        self._key_end, self._keys = np.frombuffer(index.key_end, dtype=np.int64), bytes(index.keys)
        if not len(self):
            raise ValueError(f"{self.files[0]} and its like hold no samples such as 0001.jpg with 0001.txt")
        self._note_repeats()
        self.form = self._find_form()

    def __len__(self) -> int:
        return len(self._shard)

    def record(self, position: int) -> Record:
        name = self._name(position)
        self.problems.check(position, name)
        members = self._members(position)
        repeated = [member.extension for i, member in enumerate(members) if member.extension in _seen(members[:i])]
        if repeated:
            raise BadItem(name, f"it has {repeated[0]} twice")
        # a damaged json does not matter if nothing in it is needed
        needed = self.form != "winners" or not any(member.extension in TEXTS[:2] for member in members)
        fields = self._json(members, name) if needed else {}
        if self.form != "pairs":
            single = next((member for member in members if member.extension in MEDIA), None)
            if single is None:
                raise BadItem(name, f"no picture or clip; it has {', '.join(_seen(members))}")
            media = [_media(name, single)]
        else:
            halves = _halves(members)
            if len(halves) < 2:
                raise BadItem(name, f"no pair such as 0.jpg and 1.jpg; it has {', '.join(_seen(members))}")
            media = [_media(name, half) for half in halves]
        columns = self._columns(self.form)
        won = columns.verdict(fields, name)
        caption, *more = self._texts(members, fields, name)
        first, second = media[0], media[1] if len(media) == 2 else None
        return Record(name, caption, *((first, second) if won else (second, first)), more=tuple(more))

    def fingerprint(self) -> str:
        parts = [self._shard, self._first, self._start, self._size, self._extension, self._key_end]
        digest = sha256(self._keys)
        for part in parts:
            digest.update(part.tobytes())
        # captions lie in the members: a change of one that keeps all sizes shows in the file's time alone
        files = [(name, file.size, file.changed) for name, file in zip(self._names, self._fixed, strict=True)]
        content = [files, self._extensions, self._captions, self._label, digest.hexdigest()]
        return sha256(json.dumps(content).encode()).hexdigest()

    def check_there(self) -> None:
        for file in self._fixed:
            file.check()

    def _key(self, position: int) -> str:
        start = int(self._key_end[position - 1]) if position else 0
        return self._keys[start : int(self._key_end[position])].decode()

    def _name(self, position: int) -> str:
        return f"{self._names[self._shard[position]]}/{self._key(position)}"

    def _members(self, position: int) -> list[_Member]:
        file = self._fixed[self._shard[position]]
        return [
            _Member(self._extensions[self._extension[i]], Span(file, int(self._start[i]), int(self._size[i])))
            for i in range(int(self._first[position]), int(self._first[position + 1]))
        ]

    def _columns(self, form: Supervision) -> Columns:
        label = self._label or {"pairs": "label_0", "labels": "label", "winners": None}[form]
        return Columns("0", "1" if form == "pairs" else None, label, self._captions)

    def _json(self, members: list[_Member], name: str) -> dict:
        found = next((member for member in members if member.extension == "json"), None)
        if found is None:
            return {}
        try:
            fields = json.loads(_text(found, name))
        except (ValueError, RecursionError) as error:
            raise BadItem(name, f"its json cannot be read: {str(error)[:100]}") from error
        return fields if isinstance(fields, dict) else {}

    def _texts(self, members: list[_Member], fields: dict, name: str) -> tuple[str, ...]:
        for extension in TEXTS[:2]:
            found = next((member for member in members if member.extension == extension), None)
            if found is not None:
                return self._columns("winners").texts({self._captions[0]: _text(found, name)}, name)
        last = next((member for member in members if member.extension == TEXTS[2]), None)
        if last is not None and not any(fields.get(column) is not None for column in self._captions):
            return self._columns("winners").texts({self._captions[0]: _text(last, name)}, name)
        return self._columns("winners").texts(fields, name)

    def _note_repeats(self) -> None:
        names = (self._name(position).encode() for position in range(len(self)))
        hashes = np.fromiter(map(hash64, names), dtype=np.uint64, count=len(self))
        for position in repeats(hashes):
            self.problems.reject(position, "there twice: an earlier sample has the same key", self._name(position))

    def _find_form(self) -> Supervision:
        for position in range(len(self)):
            if self.problems.is_rejected(position):
                continue
            members = self._members(position)
            if len(_halves(members)) == 2:
                return "pairs"
            if any(member.extension in MEDIA for member in members):
                try:
                    fields = self._json(members, self._name(position))
                except BadItem:
                    continue
                return "labels" if (self._label or "label") in fields else "winners"
        return "winners"


class _Index:
    """Offsets of all members and samples, in arrays that grow."""

    def __init__(self, problems: Problems):
        self.problems = problems
        self.shard, self.first, self.key_end, self.keys = array("i"), array("q"), array("q"), bytearray()
        self.start, self.size, self.extension = array("q"), array("q"), array("H")
        self.extensions: dict[str, int] = {}

    def add(self, number: int, name: str, path: Path) -> None:
        key, gaps = None, []
        members, reason = retry_io(partial(_listed, path), name)
        try:
            for member in members:
                if isinstance(member, Gap):
                    if member.problem is not None:
                        self._begin(number, "")
                        self.problems.reject(len(self.shard) - 1, f"{member.problem}; read on behind it", name)
                        key = None
                    gaps.append((member, len(self.shard)))
                elif member.problem is not None:
                    self._begin(number, member.name)
                    self.problems.reject(len(self.shard) - 1, member.problem, f"{name}/{member.name}")
                    key = None
                elif (split := _NAME.fullmatch(member.name)) is not None:
                    if split[1] != key:
                        key = split[1]
                        self._begin(number, key)
                    self.extension.append(self.extensions.setdefault(split[2].lower(), len(self.extensions)))
                    self.start.append(member.start)
                    self.size.append(member.size)
        except OverflowError as error:
            reason = f"cannot be read: {error}"
        if reason is not None:
            self._begin(number, "")
            self.problems.reject(len(self.shard) - 1, reason, name)
            self.problems.lose(name, reason)
        if gaps:
            (gap, before), *others = gaps
            what = "zero bytes (a hole, or tars that were joined)" if gap.problem is None else "damaged bytes"
            more = f" and at {len(others)} more places" if others else ""
            self.problems.remarks.append(
                f"{name}: {gap.size:,} {what} after {gap.after or 'its beginning'}{more}; read on behind them, "
                f"{len(self.shard) - before:,} samples more"
            )

    def _begin(self, number: int, key: str) -> None:
        self.shard.append(number)
        self.first.append(len(self.start))
        self.keys += key.encode()
        self.key_end.append(len(self.keys))


def _listed(path: Path) -> tuple[list[Member | Gap], str | None]:
    """The members of a tar as far as it can be read, and why no further."""
    members: list[Member | Gap] = []
    try:
        for member in read_members(path):
            members.append(member)
    except TarDamage as damage:
        return members, str(damage)
    except OSError as error:
        if is_transient(error):
            raise
        return members, f"cannot be read: {error}"
    return members, None


def _seen(members: list[_Member]) -> list[str]:
    return [member.extension for member in members]


def _halves(members: list[_Member]) -> list[_Member]:
    found = {}
    for member in members:
        if (half := _HALF.fullmatch(member.extension)) is not None:
            found.setdefault(half["n"] or half["m"], member)
    return [found[number] for number in ("0", "1") if number in found]


def _media(name: str, member: _Member) -> Media:
    return Media(f"{name}.{member.extension}", member.span, member.span.size)


def _text(member: _Member, name: str) -> str:
    if member.span.size > MAX_TEXT:
        raise BadItem(name, f"its {member.extension} has {member.span.size:,} bytes, over the limit of {MAX_TEXT:,}")
    try:
        return member.span.file.read(member.span.start, member.span.size).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadItem(name, f"its {member.extension} is not UTF-8 text") from error
