"""Files of JSON lines that several processes add to and that may have been cut off in the middle of a line."""

import json
from collections.abc import Iterator
from pathlib import Path


def read_lines(folder: Path, stem: str) -> Iterator[dict]:
    """Every whole line of `stem.jsonl` and of the shards' `stem.1-of-4.jsonl`, files by name, lines in order."""
    for path in sorted(folder.glob(f"{stem}*.jsonl")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                found = json.loads(line)
            except json.JSONDecodeError:
                # the line that was being written when a process was killed; its work is done again
                continue
            if isinstance(found, dict):
                yield found


class LineWriter:
    """Adds lines to one file, each on disk before the next is made. Each process has a file of its own (`shard`)."""

    def __init__(self, folder: Path, stem: str, shard: "Shard | None" = None):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (f"{stem}.jsonl" if shard is None else f"{stem}.{shard.number}-of-{shard.count}.jsonl")
        cut_off = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        self._file = path.open("a", encoding="utf-8")
        if cut_off:
            self._file.write("\n")

    def write(self, content: dict) -> None:
        self._file.write(json.dumps(content, ensure_ascii=False) + "\n")
        self._file.flush()

    def __enter__(self) -> "LineWriter":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


class Shard:
    """Every `count`-th prompt from the `number`-th on: one process's part of the work."""

    def __init__(self, number: int, count: int):
        if not 1 <= number <= count:
            raise ValueError(f"--shard {number}/{count}: the first number counts from 1 to the second")
        self.number, self.count = number, count

    @classmethod
    def parse(cls, text: str) -> "Shard":
        number, slash, count = text.partition("/")
        if not slash or not number.isdecimal() or not count.isdecimal():
            raise ValueError(f"--shard {text!r} should be i/n, e.g. 1/4")
        return cls(int(number), int(count))

    def of(self, items: list) -> list:
        return items[self.number - 1 :: self.count]
