"""Known faults of a source: single rows, runs of rows, whole files, and a disk that fails."""

from threading import Lock
from typing import NamedTuple

from seppo_core.data.source import BadItem


class _Problem(NamedTuple):
    file: str | None
    reason: str


class _Span(NamedTuple):
    start: int
    stop: int
    problem: _Problem


class Problems:
    """Several threads may report and ask at the same time."""

    def __init__(self):
        self._lock = Lock()
        self._rows: dict[int, _Problem] = {}
        self._spans: list[_Span] = []
        self._unreadable: str | None = None
        self.lost: dict[str, str] = {}
        """The files, such as shards, that cannot be read or not to their end, each with the reason."""
        self.remarks: list[str] = []
        """What should be said when the source is opened, a line each, though no row may be lost by it."""

    def lose(self, file: str, reason: str) -> None:
        """Notes that `file` cannot be read, or not to its end."""
        with self._lock:
            self.lost[file] = reason

    def reject(self, row: int, reason: str, file: str | None = None) -> None:
        """Rejects a row, unless it is rejected already. `file` is its name, by default the one that `check` gets."""
        with self._lock:
            self._rows.setdefault(row, _Problem(file, reason))

    def reject_span(self, start: int, stop: int, reason: str) -> None:
        """Rejects the rows from `start` to `stop` - 1."""
        with self._lock:
            self._spans.append(_Span(start, stop, _Problem(None, reason)))

    def is_rejected(self, row: int) -> bool:
        return self._find(row) is not None

    def check(self, row: int, name: str) -> None:
        """Raises BadItem if the row, called `name`, was rejected."""
        if (problem := self._find(row)) is not None:
            raise BadItem(problem.file or name, problem.reason)

    def note_read(self) -> None:
        """Notes that a file could be read, so that the disk works."""
        with self._lock:
            self._unreadable = None

    def is_alone_unreadable(self, file: str) -> bool:
        """Notes that `file` could not be read, however often; returns False if that was so of another one before it."""
        with self._lock:
            alone = self._unreadable in (None, file)
            self._unreadable = file if alone else self._unreadable
            return alone

    def _find(self, row: int) -> _Problem | None:
        with self._lock:
            if row in self._rows:
                return self._rows[row]
            return next((span.problem for span in self._spans if span.start <= row < span.stop), None)
