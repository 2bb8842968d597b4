"""Lines of JSON that several processes may add to, each on disk before the next is made, and each with a check."""

import json
from collections.abc import Iterator
from hashlib import blake2b
from io import SEEK_END
from pathlib import Path

from benchmarks.evaluation.shard import Shard

CHECK = ', "check": "'


def read_lines(folder: Path, stem: str) -> Iterator[dict]:
    """Every whole line of `stem.jsonl` and of the shards' `stem.1-of-4.jsonl`, files by name, lines in order.

    A line that was being written when a process was killed, or that is not as it was written, is left out: its work is
    done again. Lines of before have no check.
    """
    for path in sorted(folder.glob(f"{stem}*.jsonl")):
        for line in path.read_bytes().decode(errors="replace").split("\n"):
            content, _, check = line.rpartition(CHECK)
            if content and check != _ending(content + "}"):
                continue
            try:
                found = json.loads(f"{content}}}" if content else line)
            except json.JSONDecodeError:
                continue
            if isinstance(found, dict):
                yield found


class LineWriter:
    """Adds lines to one file. Each process has a file of its own (`shard`)."""

    def __init__(self, folder: Path, stem: str, shard: Shard | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (f"{stem}.jsonl" if shard is None else f"{stem}.{shard.number}-of-{shard.count}.jsonl")
        self._file = path.open("a", encoding="utf-8")
        if not _ends_a_line(path):
            self._file.write("\n")

    def write(self, content: dict) -> None:
        """One line; `content` is not empty and has no `check` of its own."""
        text = json.dumps(content, ensure_ascii=False)
        self._file.write(f"{text[:-1]}{CHECK}{_ending(text)}\n")
        self._file.flush()

    def __enter__(self) -> "LineWriter":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


def _ending(text: str) -> str:
    """What follows `CHECK` in a line: a hash of what is before it."""
    return f'{blake2b(text.encode(errors="replace"), digest_size=4).hexdigest()}"}}'


def _ends_a_line(path: Path) -> bool:
    """Whether a file is empty or ends with a newline: not if a process was killed while it wrote."""
    with path.open("rb") as file:
        if file.seek(0, SEEK_END) == 0:
            return True
        file.seek(-1, SEEK_END)
        return file.read(1) == b"\n"
