"""Opens the rows that `data.source` names: captions, and where each picture or clip lies. Imports no torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

from seppo_core.config.data import DataConfig
from seppo_core.data.beside import CaptionFiles
from seppo_core.data.columns import Columns, caption_columns, choose_columns
from seppo_core.data.csv_jsonl import text_table
from seppo_core.data.discover import PROMPTS, Found
from seppo_core.data.hub import fetched, is_saved, streamed
from seppo_core.data.parquet import ParquetTable, Shard
from seppo_core.data.prompt_lines import PromptLines
from seppo_core.data.records import Records
from seppo_core.data.tables import Place, Table, TableRecords, find_place
from seppo_core.data.tar import TarRecords

Choose = Callable[[Sequence[str], str], Columns]


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
        return TableRecords(rows, rows.choice, _root_of_fetched(root))
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


def _named(found: Found) -> list[tuple[str, Path]]:
    return [(path.relative_to(found.root).as_posix(), path) for path in found.files]


def _root_of_fetched(root: Path) -> Path:
    """The folder that files beside a fetched data set must be in: its own folder, or the cache of `datasets`."""
    if root.is_dir():
        return root
    from datasets.config import HF_CACHE_HOME

    return Path(HF_CACHE_HOME)
