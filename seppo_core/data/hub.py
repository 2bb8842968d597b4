"""Data sets on the Hugging Face Hub, streamed or fetched as a whole, and folders that `datasets` has saved."""

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from seppo_core.config.messages import first_line
from seppo_core.data.columns import Columns
from seppo_core.data.parquet import ParquetTable, Shard, need_pyarrow
from seppo_core.data.problems import Problems
from seppo_core.data.source import BadItem
from seppo_core.data.tables import Row, Table

if TYPE_CHECKING:
    from datasets import Dataset
    from fsspec import AbstractFileSystem

CONVERTED = "refs/convert/parquet"
"""The branch with the Hub's own parquet copy of most data sets."""
Choose = Callable[[Sequence[str], str], Columns]


class ArrowTable(Table):
    """A data set on disk in the format of `datasets`, memory-mapped."""

    def __init__(self, dataset: "Dataset", name: str, choose: Choose):
        self.choice = choose(dataset.column_names, name)
        self.columns, self._name, self.holds_bytes, self.problems = self.choice.names, name, True, Problems()
        self._print = f"{dataset._fingerprint} {len(dataset)}"
        # as stored: pictures stay bytes, which we decode and check ourselves
        self._rows = dataset.select_columns(list(dict.fromkeys(self.columns))).with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, position: int) -> Row:
        try:
            return self._rows[position : position + 1].to_pylist()[0]
        except UnicodeDecodeError as error:
            raise BadItem(self.name(position), f"not UTF-8 text: {first_line(error)}") from error

    def name(self, position: int) -> str:
        return f"{self._name}:{position}"

    def scan_columns(self, names: Sequence[str]) -> Iterator[Row]:
        kept = self._rows.select_columns(list(dict.fromkeys(names)))
        return (row for batch in kept.iter(1000) for row in batch.to_pylist())

    def fingerprint(self) -> str:
        return self._print


def fetched(source: str, split: str, subset: str | None, revision: str | None, choose: Choose) -> ArrowTable:
    """The data set `source` (an id on the hub, or a folder), fetched into the cache of `datasets`, or saved by it.

    ModuleNotFoundError without `datasets`; OSError if it cannot load it; ValueError if it has no such split or
    columns.
    """
    if find_spec("datasets") is None:
        raise ModuleNotFoundError(
            f'{source} is read by datasets, which is not installed: pip install "seppo[data]"; or set data.streaming'
        )
    import datasets

    if is_saved(Path(source)):
        found = datasets.load_from_disk(source)
        if isinstance(found, datasets.DatasetDict):
            if split not in found:
                raise ValueError(f"{source} has no split {split}; it has {', '.join(found)}: set data.split")
            found = found[split]
    else:
        try:
            found = datasets.load_dataset(source, subset, split=split, revision=revision)
        except (OSError, ValueError) as error:
            raise OSError(f"{source} cannot be loaded by datasets: {first_line(error)}") from error
    return ArrowTable(found, f"{source.rstrip('/').rpartition('/')[2]}-{split}", choose)


def streamed(
    source: str,
    split: str,
    subset: str | None,
    revision: str | None,
    choose: Choose,
    remote: "AbstractFileSystem | None" = None,
) -> ParquetTable:
    """The parquet files of `source` on the Hub, streamed: row groups are downloaded when they are read.

    They are the data set's own files or those that the Hub has converted. `remote` defaults to the Hub's file system.
    Raises ValueError if there are none, OSError if the Hub cannot be reached.
    """
    need_pyarrow("data sets on the hub are streamed")
    if remote is None:
        from huggingface_hub import HfFileSystem

        remote = HfFileSystem()
    for branch in [revision] if revision is not None else [None, CONVERTED]:
        # as the file system itself spells branches with a slash: %2F, but for those under refs/
        at = "" if branch is None else f"@{branch if branch.startswith('refs/') else branch.replace('/', '%2F')}"
        root = f"datasets/{source}{at}"
        try:
            paths = [path for path in remote.find(root) if path.endswith(".parquet")]
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OSError(f"{source} cannot be listed on the hub: {first_line(error)}") from error
        inside = {path: path.removeprefix(f"{root}/") for path in paths}
        chosen = sorted(path for path, name in inside.items() if _is_of(name, split, subset))
        if chosen:
            shards = [Shard(inside[path], path, int(remote.info(path)["size"]), remote=remote) for path in chosen]
            return ParquetTable(shards, choose)
    raise ValueError(
        f"{source} has no parquet files of split {split}{f' and subset {subset}' if subset else ''} on the hub; set "
        "data.split or data.subset, or data.streaming=false to fetch it whole"
    )


def is_saved(folder: Path) -> bool:
    """Whether `datasets` has saved a data set, or splits of one, in `folder`."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _is_of(name: str, split: str, subset: str | None) -> bool:
    """Whether a file, as data/train-00000-of-00012.parquet or SUBSET/train/0000.parquet, belongs to a split."""
    *folders, file = name.split("/")
    if subset is not None and subset not in folders and not file.startswith(f"{subset}-"):
        return False
    return split in folders or re.match(rf"(?:.*-)?{re.escape(split)}(?:-|\.)", file) is not None
