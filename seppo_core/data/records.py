"""The rows of a source before anything is decoded: captions, and the places of the winner's and loser's bytes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_ISREG
from typing import NamedTuple

from seppo_core.config.method_specs import Supervision
from seppo_core.data.problems import Problems
from seppo_core.data.retry import retry_io
from seppo_core.data.source import BadItem, SourceLost, is_text


@dataclass(frozen=True)
class FixedFile:
    """A file that is read by position for hours.

    Raises SourceLost if it has changed or vanished since it was first opened, or cannot be reached.
    """

    path: Path
    size: int
    changed: int
    """Time of the last change, in ns since 1970."""

    @classmethod
    def of(cls, path: Path) -> "FixedFile":
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)

    def check(self) -> None:
        try:
            found = retry_io(self.path.stat, str(self.path))
        except SourceLost:
            raise
        except OSError as error:
            raise SourceLost(f"{self.path} vanished while it was read; is it still mounted?") from error
        if (found.st_size, found.st_mtime_ns) != (self.size, self.changed):
            raise SourceLost(f"{self.path} was changed while it was read; run the same command again")

    def read(self, start: int, size: int) -> bytes:
        """Reads `size` bytes from `start` on.

        The file is opened each time, so that threads share nothing and a lost mount is an error instead of a crash.
        """
        return retry_io(partial(self._read, start, size), str(self.path))

    def _read(self, start: int, size: int) -> bytes:
        self.check()
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read(size)
        if len(content) != size:
            raise OSError(f"{self.path.name} gave {len(content)} of {size} bytes")
        return content


class Span(NamedTuple):
    """Bytes inside a file, such as a member of an archive."""

    file: FixedFile
    start: int
    size: int


class Media(NamedTuple):
    """One picture or clip. `name` is for messages and keys of random draws; `content` is a file, bytes or a part."""

    name: str
    content: Path | bytes | Span
    size: int
    """Size in bytes."""
    noise: dict | None = None
    """Of a sample that `rank` drew, the key of its noise (`noise_key`)."""

    def load(self) -> Path | bytes:
        return self.content.file.read(*self.content[1:]) if isinstance(self.content, Span) else self.content


class Record(NamedTuple):
    """One row. A pair has both; a labelled item has `winner` if it is desirable, else `loser`."""

    id: str
    caption: str
    winner: Media | None
    loser: Media | None = None
    more: tuple[str, ...] = ()
    """Its captions but the first."""


class Records(ABC):
    """Rows by position; several threads may ask at once, and no row is kept as a Python object."""

    form: Supervision
    """Supervision that the rows contain; a source may use less of it."""
    problems: Problems
    """Known faults of the rows."""
    files: tuple[Path, ...] = ()
    """Files that list the rows or hold them: tables, shards, archives."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows, with the unusable ones."""

    @abstractmethod
    def record(self, position: int) -> Record:
        """Raises BadItem if the row is unusable, LeftOut if it is valid but excluded, as a tie."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that changes with files and captions. Reads no pixels."""

    def distinct_captions(self) -> int | None:
        """Number of distinct captions if that can be told without reading media, else None."""
        return None

    @abstractmethod
    def check_there(self) -> None:
        """Raises SourceLost if the source as a whole is gone."""


LEAVES = "leaves the data folder; use a name relative to it, without .."


def leaves_folder(name: str) -> bool:
    """Whether `name` points out of the folder it is relative to, on any system, judged by its spelling alone."""
    # most names can be cleared without taking them apart
    if ".." not in name and ":" not in name and "\0" not in name and not name.startswith(("/", "\\")):
        return False
    windows = PureWindowsPath(name)
    return name.startswith("/") or bool(windows.drive or windows.root) or ".." in windows.parts or "\0" in name


def find_file(root: Path, name: str) -> Media:
    """The file `name` under `root`; links that the user placed there are followed.

    Raises BadItem if the file cannot be used, SourceLost if it cannot be reached.
    """
    name = str(PurePosixPath(name.strip()))
    inside = PurePosixPath(name)
    if inside.is_absolute() and inside.is_relative_to(folder := root.absolute().as_posix()):
        name = str(inside.relative_to(folder))
    if leaves_folder(name):
        raise BadItem(name, f"file_name {LEAVES}")
    if not is_text(name):
        raise BadItem(name, "its name holds half a character (a lone surrogate)")
    path = root / name
    try:
        found = retry_io(path.stat, name)
        size = found.st_size if S_ISREG(found.st_mode) else -1
    except SourceLost:
        raise
    except (FileNotFoundError, NotADirectoryError):
        size = -1
    except OSError as error:
        raise BadItem(name, f"cannot be looked up: {error.strerror}") from error
    if size < 0 and "\\" in name:
        # as Windows writes it
        return find_file(root, name.replace("\\", "/"))
    if size < 0:
        raise BadItem(name, "no such file")
    return Media(name, path, size)
