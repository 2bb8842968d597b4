"""Prompt sets: what they hold, how long a name for each prompt lasts, and how they are told apart."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from seppo_core.report.wording import counted

ID_LENGTH = 12
SEPARATORS = {
    "\r": "a carriage return", "\v": "a vertical tab", "\f": "a form feed", "\x1c": "U+001C", "\x1d": "U+001D",
    "\x1e": "U+001E", "\x85": "U+0085", "\u2028": "U+2028", "\u2029": "U+2029",
}  # fmt: skip
"""Characters that some programs end a line at, and others do not."""
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Prompt:
    """One prompt. `id` is a plain name, fit for a file, that does not change when rows are added, moved or left out."""

    id: str
    text: str
    categories: tuple[tuple[str, str], ...] = ()
    """(column, value) pairs, e.g. ("Category", "Animals"); empty values are left out."""
    given: str = ""
    """The file's own id if `id` had to be made plainer: what clips and pictures of others are called by."""

    @property
    def key(self) -> str:
        """Names the sample files: an id that the file gave may come back with another text, this does not."""
        mark = text_mark(self.text)
        return self.id if self.id.startswith(mark) else f"{self.id}.{mark[:8]}"


@dataclass(frozen=True)
class PromptSet:
    """Prompts in the order of their file, and what the file held."""

    name: str
    prompts: tuple[Prompt, ...]
    rows: int
    """Rows of the file, those that could not be used among them."""
    file: str = ""
    """Name of the file or folder, without its path."""
    file_sha256: str = ""
    skipped: tuple[str, ...] = ()
    """Why rows were left out, one line each."""
    cut_from: int | None = None
    """How many prompts there were before `first` took some of them."""
    whole_sha256: str = ""
    """`sha256` before `first` took some of them."""
    notes: tuple[str, ...] = ()
    """What people may not have meant: repeated prompts and the like."""

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def sha256(self) -> str:
        """Hash of the texts in their order, which does not depend on the file format."""
        return texts_sha256([prompt.text for prompt in self.prompts])

    @property
    def texts(self) -> list[str]:
        return [prompt.text for prompt in self.prompts]

    def columns(self) -> list[str]:
        """Category columns in order of first appearance."""
        return list(dict.fromkeys(column for prompt in self.prompts for column, _ in prompt.categories))

    def first(self, count: int) -> "PromptSet":
        """The first `count` prompts; ValueError for less than one."""
        if count < 1:
            raise ValueError(f"the first {count} prompts are none; take 1 to {len(self)}")
        if count >= len(self):
            return self
        return replace(self, prompts=self.prompts[:count], cut_from=len(self), whole_sha256=self.sha256)


@dataclass
class RowReader:
    """Turns rows into prompts: skips the empty ones and says so, names the rest."""

    prompts: list[Prompt] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    rows: int = 0
    _first: dict[str, str] = field(default_factory=dict)
    _again: list[str] = field(default_factory=list)
    _odd: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def add(self, where: str, text: object, given_id: object = None, categories: Iterable[tuple[str, object]] = ()):
        """One row; `where` is how a complaint calls it."""
        self.rows += 1
        if not isinstance(text, str) or not text.strip():
            self.skipped.append(f"{where}: {'empty prompt' if not text else f'prompt {str(text)[:40]!r} is not text'}")
            return
        text = text.strip()
        if odd := next((name for mark, name in SEPARATORS.items() if mark in text.replace("\r\n", "")), None):
            self._odd.append(f"{where} holds {odd}")
        if text in self._first:
            self._again.append(f"“{_short(text)}” in {self._first[text]} and {where}")
        self._first.setdefault(text, where)
        named = tuple((column, str(value).strip()) for column, value in categories if value not in (None, ""))
        own = "" if given_id is None else str(given_id).strip()
        name = self._unique(_id(own, text))
        self.prompts.append(Prompt(name, text, tuple(c for c in named if c[1]), own if own != name else ""))

    def notes(self) -> list[str]:
        """What people may not have meant, with the first place: repeated prompts, and lines that hold others' ends."""
        found = []
        if self._again:
            found.append(f"Repeated: {counted(len(self._again), 'prompt')}, e.g. {self._again[0]}.")
        if self._odd:
            more = f", and {counted(len(self._odd) - 1, 'other')}" if len(self._odd) > 1 else ""
            found.append(f"{self._odd[0]}{more}: only newlines end a prompt, so it is part of one.")
        return found

    def _unique(self, name: str) -> str:
        # file systems of some machines do not tell a from A
        found, number = name, 1
        while found.casefold() in self._seen:
            number += 1
            found = f"{name}-{number}"
        self._seen.add(found.casefold())
        return found


def _short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _id(name: str, text: str) -> str:
    """The file's own name for the prompt if it is plain, else the first digits of the text's hash."""
    if not name:
        return text_mark(text)
    if SAFE_ID.fullmatch(name):
        return name
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "id"
    return f"{slug}-{sha256(name.encode()).hexdigest()[:8]}"


def text_mark(text: str) -> str:
    """Names a text: the first 12 hexadecimal digits of its SHA-256."""
    return sha256(text.encode()).hexdigest()[:ID_LENGTH]


def texts_sha256(texts: Sequence[str]) -> str:
    """SHA-256 over the texts as a JSON list, in their order."""
    return sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()


def normalised(text: str) -> str:
    """A text as prompts are compared for overlap: lower case, words and digits only, one space between."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def overlap(prompts: Sequence[Prompt], training: Iterable[str]) -> list[Prompt]:
    """The prompts that occur among the `training` texts, spelling of case, spaces and punctuation aside."""
    known = {normalised(text) for text in training}
    return [prompt for prompt in prompts if normalised(prompt.text) in known]
