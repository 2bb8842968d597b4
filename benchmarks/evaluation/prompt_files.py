"""Prompt files as they are published: tsv, csv, jsonl, json, txt, parquet, or a folder of them."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from benchmarks.evaluation.prompts import PromptSet, RowReader
from seppo_core.io.hashing import sha256_file

TEXT_COLUMNS = ("prompt", "caption", "text", "prompt_en", "name")
"""Where the prompt is looked for, the first found wins, whatever the case; ChronoMagic-Bench calls it `name`."""
ID_COLUMNS = ("prompt_id", "videoid", "video_id", "image_id", "id", "uid")
CATEGORY_COLUMNS = ("category", "challenge", "main_category", "sub_category", "style", "dimension", "tag")

Fields = Mapping[str, object]


def import_prompts(
    path: Path,
    name: str | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    category_columns: Sequence[str] | None = None,
) -> PromptSet:
    """The prompts in a file, or in the files of a folder, which then become the category `style`.

    Columns are found by their usual names unless given. Ids are the file's own or hashes of the texts, so that they
    stay when rows are moved. Rows without a prompt are left out and listed in `skipped`. Raises FileNotFoundError if
    nothing is there, ValueError for a format, a column or a content that cannot be read, ModuleNotFoundError for a
    parquet file without a reader of it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no prompt file at {path}")
    reader = RowReader()
    columns = (text_column, id_column, category_columns)
    files = _files_of(path)
    for file in files:
        style = [("style", file.stem.removeprefix("benchmark_"))] if path.is_dir() else []
        for where, row in rows_of(file):
            if isinstance(row, Mapping):
                text, given, categories = _pick(file, row, *columns)
            else:
                text, given, categories = row, None, []
            reader.add(f"{file.name}, {where}", text, given, [*style, *categories])
    if not reader.prompts:
        raise ValueError(f"{path} holds no prompt in {reader.rows} rows")
    return PromptSet(
        name or path.stem,
        tuple(reader.prompts),
        reader.rows,
        path.name,
        _hash_of(files),
        tuple(reader.skipped),
        notes=tuple(reader.notes()),
    )


def texts_of(path: Path) -> list[str]:
    """Every text in a prompt file, or the captions in a folder of training data (its metadata.jsonl or .csv)."""
    path = Path(path)
    tables = [table for n in ("metadata.jsonl", "metadata.csv") if (table := path / n).is_file()]
    return import_prompts(tables[0] if tables else path).texts


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS and file.is_file())
    if not files:
        raise FileNotFoundError(f"{path} has none of {', '.join(READERS)} in it")
    return files


def _hash_of(files: Sequence[Path]) -> str:
    """SHA-256 of the one file; of several, over name and hash of each."""
    hashes = [sha256_file(file) for file in files]
    if len(files) == 1:
        return hashes[0]
    joined = "".join(f"{file.name} {digest}\n" for file, digest in zip(files, hashes, strict=True))
    return sha256(joined.encode()).hexdigest()


def rows_of(file: Path) -> Iterator[tuple[str, object]]:
    """(place, fields or text) of every row. ValueError for what cannot be read."""
    suffix = file.suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"{file.name} is not a prompt file; use {', '.join(READERS)}")
    try:
        yield from READERS[suffix](file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} cannot be read as UTF-8 ({error.reason}); save it as UTF-8") from error
    except (csv.Error, json.JSONDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


def _pick(
    file: Path, row: Fields, text: str | None, given_id: str | None, categories: Sequence[str] | None
) -> tuple[object, object, list[tuple[str, object]]]:
    """Prompt, id and categories of one row."""
    spelled = {str(column).casefold(): str(column) for column in row}
    text_column = (
        _named(file, spelled, text) if text else next((spelled[c] for c in TEXT_COLUMNS if c in spelled), None)
    )
    if text_column is None:
        if other := next((mark for mark in ";\t|" if len(spelled) == 1 and mark in next(iter(spelled))), None):
            raise ValueError(
                f"{file.name} is separated by {other!r}; save it with commas, or with tabs as {file.stem}.tsv"
            )
        raise ValueError(
            f"{file.name} has the columns {', '.join(map(str, row))}, none of which is {', '.join(TEXT_COLUMNS)}; "
            "name the one with the prompts (--prompt-column)"
        )
    if given_id:
        id_column = _named(file, spelled, given_id)
    else:
        id_column = next((spelled[c] for c in ID_COLUMNS if c in spelled and spelled[c] != text_column), None)
    if categories is None:
        chosen = [column for folded, column in spelled.items() if folded in CATEGORY_COLUMNS]
    else:
        chosen = [_named(file, spelled, column) for column in categories]
    values = [(column, value) for column in chosen for value in _each(row[column])]
    return row[text_column], None if id_column is None else row[id_column], values


def _named(file: Path, spelled: Mapping[str, str], column: str) -> str:
    if column.casefold() not in spelled:
        raise ValueError(f"{file.name} has no column {column!r}; it has {', '.join(spelled.values())}")
    return spelled[column.casefold()]


def _each(value: object) -> Iterable[object]:
    """VBench lists several dimensions for one prompt."""
    return value if isinstance(value, list) else [value]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers. Newlines alone end a line, after a carriage return or not.

    `str.splitlines` also ends them at form feeds, U+2028 and the like, which occur inside of prompts.
    """
    for number, text in enumerate(file.read_bytes().decode("utf-8-sig").split("\n"), start=1):
        if text.strip():
            yield number, text.removesuffix("\r")


def _text_rows(file: Path) -> Iterator[tuple[str, object]]:
    for line, text in _lines(file):
        yield f"line {line}", text


def _table_rows(delimiter: str, quoting: int) -> Callable[[Path], Iterator[tuple[str, object]]]:
    def rows(file: Path) -> Iterator[tuple[str, object]]:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, quoting=quoting, strict=quoting != csv.QUOTE_NONE)
            header = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if any(cells):
                    if len(cells) > len(header):
                        raise ValueError(
                            f"{file.name}, line {reader.line_num}: {len(cells)} columns, the header has {len(header)}"
                        )
                    yield f"line {reader.line_num}", dict(zip(header, cells, strict=False))

    return rows


def _jsonl_rows(file: Path) -> Iterator[tuple[str, object]]:
    for line, text in _lines(file):
        try:
            yield f"line {line}", json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file.name}, line {line}: not JSON ({error.msg})") from error


def _json_rows(file: Path) -> Iterator[tuple[str, object]]:
    """A list of texts or of objects; or an object with a list per style, or a list per column."""
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    if isinstance(content, list):
        for number, item in enumerate(content):
            yield f"item {number}", item
        return
    if not isinstance(content, dict) or not all(isinstance(value, list) for value in content.values()):
        raise ValueError(f"{file.name} is neither a list of prompts nor an object of lists")
    lengths = {len(value) for value in content.values()}
    if len(lengths) == 1 and any(str(column).casefold() in TEXT_COLUMNS for column in content):
        for number, values in enumerate(zip(*content.values(), strict=True)):
            yield f"row {number}", dict(zip(content, values, strict=True))
        return
    for style, texts in content.items():
        for number, item in enumerate(texts):
            fields = item if isinstance(item, dict) else {"prompt": item}
            yield f"{style} {number}", {**fields, "style": style}


def _parquet_rows(file: Path) -> Iterator[tuple[str, object]]:
    if find_spec("pyarrow") is None:
        raise ModuleNotFoundError(
            f"{file.name} is a parquet file, which pyarrow reads: pip install pyarrow (or .[data]), or convert it"
        )
    from pyarrow import parquet

    for number, row in enumerate(parquet.read_table(file).to_pylist()):
        yield f"row {number}", row


READERS: dict[str, Callable[[Path], Iterator[tuple[str, object]]]] = {
    ".txt": _text_rows,
    # a tab-separated file has no quotes that mean anything: prompts begin with them
    ".tsv": _table_rows("\t", csv.QUOTE_NONE),
    ".csv": _table_rows(",", csv.QUOTE_MINIMAL),
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}
"""Readers by file suffix."""
