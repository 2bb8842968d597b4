"""Opens `data.source`, whatever its format, and checks it against the expected number of rows and hash."""

import os
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from seppo_core.config.data import DataConfig
from seppo_core.data.discover import find_source
from seppo_core.data.media import Decoder, MediaSource
from seppo_core.data.open_records import open_records
from seppo_core.data.prompts import Prompts
from seppo_core.data.records import Records
from seppo_core.data.source import Source
from seppo_core.io.hashing import sha256_file


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
