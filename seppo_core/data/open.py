"""Opens `data.source`, whatever its format, and checks it against the expected number of rows and hash."""

import os
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from seppo_core.config.data import DataConfig
from seppo_core.data.beside import CaptionFiles
from seppo_core.data.columns import Columns, caption_columns, choose_columns
from seppo_core.data.csv_jsonl import text_table
from seppo_core.data.discover import PROMPTS, Found, find_source
from seppo_core.data.hub import fetched, is_saved, streamed
from seppo_core.data.media import Decoder, MediaSource
from seppo_core.data.parquet import ParquetTable, Shard
from seppo_core.data.prompts import PromptLines, Prompts
from seppo_core.data.records import Records
from seppo_core.data.source import Source
from seppo_core.data.tables import Place, Table, TableRecords, find_place
from seppo_core.data.tar import TarRecords
from seppo_core.io.hashing import sha256_file

Choose = Callable[[Sequence[str], str], Columns]


def open_source(config: DataConfig, decoder: Decoder, seed: int) -> Source:
    """Opens the items that the `data` section names; of captions alone `decoder` says the size that is drawn. Reads
    tables, footers and headers, but no pixels.

    Raises FileNotFoundError, ValueError or ModuleNotFoundError, in one line, if that is impossible, if the rows do not
    suit data.supervision, or if data.expected_rows or data.expected_sha256 do not hold.
    """
    alone = config.supervision == "prompts"
    found = find_source(config.source, config.format, alone)
    records = open_records(config, found)
    for name, reason in records.problems.lost.items():
        # nobody knows how many items it held, so that rejected.jsonl can only name the file
        print(f"{name} is left out from where it cannot be read: {reason}", file=sys.stderr)
    for remark in records.problems.remarks:
        print(remark, file=sys.stderr)
    if alone:
        source: Source = Prompts(records, decoder)
    else:
        source = MediaSource(records, decoder, form=config.supervision, pick=config.pick, seed=seed)
    check_expected(config, records)
    return source


def open_records(config: DataConfig, found: Found) -> Records:
    """Opens the rows of the files that `find_source` found."""
    # a table of captions alone needs no files, and none of those that it names
    alone = config.supervision == "prompts"

    def choose(available: Sequence[str], where: str) -> Columns:
        if alone:
            return caption_columns(available, where, config.caption_column)
        return choose_columns(
            available,
            where,
            first=config.first_column,
            second=config.second_column,
            label=config.label_column,
            caption=config.caption_column,
        )

    root = found.root if config.root is None else Path(config.root).expanduser()
    if not root.is_dir() and found.format != "hub":
        raise FileNotFoundError(f"data.root={root} is not a folder; name the one that the table's files lie in")
    if found.format == "folder":
        placed = found if config.root is None else found._replace(root=root)
        return open_folder(placed, choose, search=config.root is None and not alone, unique=not alone)
    if found.format == "webdataset":
        if config.first_column is not None or config.second_column is not None:
            raise ValueError(
                "data.first_column and data.second_column are for tables; a tar's members are known by their suffixes, "
                "such as KEY.jpg, or KEY.0.jpg and KEY.1.jpg"
            )
        return TarRecords(_named(found), config.caption_column, config.label_column)
    if found.format == "parquet":
        table = ParquetTable([Shard.of(path, name) for name, path in _named(found)], choose)
    elif config.streaming and not found.root.is_dir():
        table = streamed(config.source, config.split, config.subset, config.revision, choose)
    else:
        source = str(found.root) if is_saved(found.root) or found.root.is_dir() else config.source
        rows = fetched(source, config.split, config.subset, config.revision, choose)
        return TableRecords(rows, rows.choice, _root_of_fetched(root, config))
    return TableRecords(table, table.choice, root if root.is_dir() else Path.cwd())


def open_folder(
    found: Found, choose: Choose = choose_columns, search: bool = True, unique: bool = True
) -> TableRecords:
    """The rows of a table, or of captions in files beside the media; with `search` the files of a table that lie in a
    folder below it are found there. `unique` is that of `TableRecords`."""
    if not found.files:
        rows: Table = CaptionFiles(found.root)
        return TableRecords(rows, choose(rows.columns, str(found.root)), found.root, unique=unique)
    rows = PromptLines(found.files[0]) if found.files[0].suffix.lower() == PROMPTS else text_table(found.files[0])
    columns = choose(rows.columns, str(found.files[0]))
    place = find_place(rows, columns, found.root) if search else Place(found.root)
    rows.problems.remarks += [line for line in (found.remark, place.remark) if line]
    return TableRecords(rows, columns, place.root, unique=unique, prefix=place.prefix)


def check_expected(config: DataConfig, records: Records) -> None:
    """Raises ValueError if the data are not the expected ones. Only the main process computes the hash."""
    if config.expected_rows is not None and len(records) != config.expected_rows:
        raise ValueError(
            f"data.source={config.source} has {len(records):,} rows, data.expected_rows={config.expected_rows:,}; "
            "it is not a complete copy, or another version"
        )
    if config.expected_sha256 is None:
        return
    if not records.files:
        raise ValueError("data.expected_sha256 needs files on disk; for a data set on the Hub set data.revision")
    # the launcher's name for the process's number; the others would read the same files again
    if os.environ.get("RANK", "0") == "0" and (found := hash_of(records.files)) != config.expected_sha256.lower():
        raise ValueError(
            f"data.source={config.source} has the hash {found}, data.expected_sha256={config.expected_sha256}; "
            "it is not a true copy, or another version"
        )


def hash_of(files: Sequence[Path]) -> str:
    """The SHA-256 of one file; for several files, the SHA-256 of what `sha256sum` prints for them in their order.

    Anybody can compute it: `sha256sum *.parquet | sha256sum` in the folder.
    """
    hashes = [sha256_file(path) for path in files]
    if len(files) == 1:
        return hashes[0]
    listing = "".join(f"{value}  {path.name}\n" for value, path in zip(hashes, files, strict=True))
    return sha256(listing.encode()).hexdigest()


def _named(found: Found) -> list[tuple[str, Path]]:
    return [(path.relative_to(found.root).as_posix(), path) for path in found.files]


def _root_of_fetched(root: Path, config: DataConfig) -> Path:
    """The folder that files beside a fetched data set must be in: its own folder, or the cache of `datasets`."""
    if root.is_dir():
        return root
    from datasets.config import HF_CACHE_HOME

    return Path(HF_CACHE_HOME)
