"""Where winners come from: a captioned folder read row by row, and the errors that one bad file may raise."""

import csv
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from seppo_core.adapter import Framing

Kind = Literal["image", "video"]

CAPTION_COLUMNS = ("caption", "text", "prompt")
"""Names the caption may go by, the first found wins; Hugging Face's image folders say `text`."""


class BadItem(Exception):
    """One item cannot be used, the others can: `file` as the table names it, and the reason in words."""

    def __init__(self, file: str, reason: str):
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason


class Item(NamedTuple):
    """One captioned picture or clip: `pixels` (3, [f], h, w) uint8; `id` names it whatever its place in the table."""

    id: str
    file: str
    caption: str
    pixels: UInt8[Tensor, "3 *frames h w"]
    framing: Framing


class Source(ABC):
    """Captioned items of one size, read by position and in any order, from several threads at once."""

    kind: Kind
    height: int
    width: int
    frames: int
    """Frames of a clip; 1 for pictures."""

    @abstractmethod
    def __len__(self) -> int:
        """Items listed, the bad ones among them."""

    @abstractmethod
    def item(self, position: int) -> Item:
        """The item at `position`; BadItem where it cannot be used."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes with whatever changes an item: files, captions, size, sampling. Cheap: reads no pixels."""


@dataclass(frozen=True)
class Row:
    """One row of a metadata table; `problem` says why it cannot be used, None where it can."""

    line: int
    file: str
    caption: str = ""
    size: int = -1
    """Bytes of the file; -1 where there is none."""
    problem: str | None = None


class FolderSource(Source):
    """Files of a folder, captioned by its `metadata.jsonl` or `metadata.csv` (`file_name` and `caption`).

    A row that cannot be used stays in its place and raises BadItem when asked for, so that positions never shift.
    FileNotFoundError or ValueError where the folder or the table itself is unusable.
    """

    def __init__(self, folder: str | Path, height: int, width: int, frames: int = 1):
        if min(height, width, frames) < 1:
            raise ValueError(f"height {height}, width {width} and frames {frames} must all be at least 1")
        self.folder, self.height, self.width, self.frames = Path(folder), height, width, frames
        self.rows = read_table(self.folder)

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, position: int) -> Item:
        row = self.rows[position]
        if row.problem is not None:
            raise BadItem(row.file, row.problem)
        try:
            pixels, framing = self.load(row.file)
        except BadItem:
            raise
        # decoders answer a damaged file with whatever comes to hand: OSError, SyntaxError, struct.error, EOFError, …
        except Exception as error:
            if not self.folder.is_dir():
                raise FileNotFoundError(
                    f"{self.folder} vanished while its items were read; is it still mounted?"
                ) from error
            reason = first_line(error).replace(str(self.folder / row.file), row.file)
            raise BadItem(row.file, f"cannot be read: {reason}") from error
        return Item(row.file, row.file, row.caption, pixels, framing)

    @abstractmethod
    def load(self, file: str) -> tuple[UInt8[Tensor, "3 *frames h w"], Framing]:
        """Decodes one file of the folder, cut to size."""

    def settings(self) -> tuple[int | float | str | bool, ...]:
        """What beside the files decides the pixels; subclasses add theirs."""
        return (self.kind, self.height, self.width, self.frames)

    def fingerprint(self) -> str:
        rows = [(row.file, row.size, row.caption, row.problem) for row in self.rows]
        return sha256(json.dumps([self.settings(), rows]).encode()).hexdigest()


def read_table(folder: Path) -> list[Row]:
    """Rows of the folder's metadata table, in its order, the unusable ones marked with the reason.

    FileNotFoundError where there is no folder or no table; ValueError where there are two tables, or where the table
    as a whole cannot be read (a CSV without the columns, not UTF-8, no rows).
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no data folder at {folder}")
    tables = [path for name in ("metadata.jsonl", "metadata.csv") if (path := folder / name).is_file()]
    if not tables:
        raise FileNotFoundError(
            f"{folder} has no metadata.jsonl and no metadata.csv; write one with file_name and caption, e.g. "
            f'{{"file_name": "a.png", "caption": "a red house"}}'
        )
    if len(tables) == 2:
        raise ValueError(f"{folder} has both metadata.jsonl and metadata.csv; keep the one that is meant")
    fields = _jsonl_fields(tables[0]) if tables[0].suffix == ".jsonl" else _csv_fields(tables[0])
    rows: list[Row] = []
    lines: dict[str, int] = {}
    for line, found in fields:
        row = found if isinstance(found, Row) else _row(folder, line, *found)
        if row.problem is None and row.file in lines:
            row = Row(line, row.file, problem=f"named twice, first on line {lines[row.file]} of {tables[0].name}")
        lines.setdefault(row.file, line)
        rows.append(row)
    if not rows:
        raise ValueError(f"{tables[0]} has no rows")
    return rows


def first_line(error: BaseException, limit: int = 200) -> str:
    """An exception in one short line: decoders put stack traces into their messages."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (text or type(error).__name__)[:limit]


def _row(folder: Path, line: int, file: object, caption: object) -> Row:
    if not isinstance(file, str) or not file.strip():
        return Row(line, f"line {line}", problem="no file_name" if not file else f"file_name {file!r} is not text")
    name = str(PurePosixPath(file.strip()))
    windows = PureWindowsPath(name)
    # a name that leaves the folder is refused by its spelling alone; links that the user placed inside are followed
    if name.startswith("/") or windows.drive or windows.root or ".." in windows.parts or "\0" in name:
        return Row(line, name, problem="file_name leaves the data folder; use a name relative to it, without ..")
    if caption is None:
        return Row(line, name, problem=f"no caption; looked for {', '.join(CAPTION_COLUMNS)}")
    if not isinstance(caption, str):
        return Row(line, name, problem=f"caption {str(caption)[:40]!r} is not text")
    try:
        path = folder / name
        size = path.stat().st_size if path.is_file() else -1
    except OSError as error:
        return Row(line, name, problem=f"cannot be looked up: {error.strerror}")
    problem = "no such file" if size < 0 else None if caption.strip() else "empty caption"
    return Row(line, name, caption.strip(), size, problem)


def _jsonl_fields(table: Path):
    with table.open("rb") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                fields = json.loads(text.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                yield line, Row(line, f"line {line}", problem=f"not a line of JSON: {first_line(error)}")
                continue
            if not isinstance(fields, dict):
                yield (
                    line,
                    Row(line, f"line {line}", problem='not a JSON object such as {"file_name": …, "caption": …}'),
                )
                continue
            yield line, (fields.get("file_name"), next((fields[c] for c in CAPTION_COLUMNS if c in fields), None))


def _csv_fields(table: Path):
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            column = next((c for c in CAPTION_COLUMNS if c in header), None)
            if "file_name" not in header or column is None:
                raise ValueError(
                    f"{table} has the columns {header}; it needs file_name and one of {', '.join(CAPTION_COLUMNS)}"
                )
            at_file, at_caption = header.index("file_name"), header.index(column)
            for cells in reader:
                line = reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    name = cells[at_file] if at_file < len(cells) else f"line {line}"
                    problem = f"line {line} has {len(cells)} columns, the header {len(header)}; quote texts with commas"
                    yield line, Row(line, name or f"line {line}", problem=problem)
                    continue
                yield line, (cells[at_file], cells[at_caption])
        except csv.Error as error:
            raise ValueError(f"{table}, line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{table} is not UTF-8 text: {first_line(error)}") from error
