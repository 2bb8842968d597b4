"""What a folder's files were when they were written: their hashes, in `hashes.json`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seppo_core.io.checked_json import read_checked, save_checked
from seppo_core.io.remembered import remembered_hashes, remembered_sha256

LEDGER = "hashes.json"


class Ledger:
    """The hashes of files under `folder`, by name. A file that was never recorded, as all of earlier versions, has no
    fault that could be seen. One process writes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / LEDGER

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Context in which `path` is written: what was recorded of it is forgotten before, what is there now recorded
        after it. A kill in between leaves a file without a record."""
        self.forget(path)
        yield
        self.record(path)

    def record(self, *paths: Path) -> None:
        """Records what the files hold now."""
        hashes = dict(zip(map(self._name, paths), remembered_hashes(paths), strict=True))
        save_checked(self.path, self._read() | hashes)

    def forget(self, path: Path) -> None:
        found = self._read()
        if found.pop(self._name(path), None) is not None:
            save_checked(self.path, found)

    def knows(self, path: Path) -> bool:
        """Whether `path` was recorded."""
        return self._name(path) in self._read()

    def problem(self, path: Path) -> str | None:
        """What is wrong with a file that was recorded; None if nothing is, or if it was not recorded.

        ValueError if the record itself is damaged.
        """
        recorded = self._read().get(self._name(path))
        if recorded is None:
            return None
        if not path.is_file():
            return "is missing"
        return None if remembered_sha256(path) == recorded else "has another content than was written"

    def problems(self) -> dict[str, str]:
        """The name and the fault of every recorded file that has one."""
        found = {name: self.problem(self.folder / name) for name in self._read()}
        return {name: problem for name, problem in found.items() if problem is not None}

    def drop_if_damaged(self) -> str | None:
        """Removes a damaged record, since nothing can be compared with it; says so, or returns None if it is well."""
        try:
            self._read()
        except ValueError as error:
            self.path.unlink()
            return f"{error}: it is begun anew, and what was written before is not compared"
        return None

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _read(self) -> dict[str, str]:
        try:
            return read_checked(self.path) if self.path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged ({error})") from error
