"""A folder of samples, to which more are added: `samples.jsonl` says of each file what it is and how it was drawn."""

import json
import re
from pathlib import Path

from seppo_core.io.atomic import save_text
from seppo_core.run.history import append_line, read_lines

INDEX = "samples.jsonl"
_NAME = re.compile(r"(\d+)-seed\d+\.\w+")
Asked = tuple[str, int]
"""A prompt and a seed."""


class SampleFolder:
    """Samples that are drawn with `settings`, each in a line of the index with its file, prompt and seed.

    Nothing is ever overwritten: a prompt and seed that are there already are not drawn again. ValueError from `missing`
    if they were drawn otherwise.
    """

    def __init__(self, folder: Path, settings: dict[str, str | int | float | bool | None]):
        self.folder, self.settings = folder, settings
        self._index = folder / INDEX
        lines = read_lines(self._index)
        if not all({"file", "prompt", "seed"} <= line.keys() for line in lines):
            raise ValueError(
                f"{self._index} is no index of samples (lines with file, prompt and seed); name another folder with "
                "--out"
            )
        there = [line for line in lines if (folder / line["file"]).is_file()]
        if len(there) < len(lines):
            # of files that were removed, and are drawn again if they are wanted
            save_text(self._index, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in there))
        self._lines = {(line["prompt"], line["seed"]): line for line in there}
        self._numbers = {prompt: _number(line["file"]) for (prompt, _), line in self._lines.items()}

    def missing(self, prompts: list[str], seeds: list[int]) -> list[Asked]:
        """Those of every prompt with every seed that are not there, in this order and each once."""
        wanted = list(dict.fromkeys((prompt, seed) for prompt in prompts for seed in seeds))
        for prompt, seed in wanted:
            if (prompt, seed) in self._lines:
                self._check(self._lines[prompt, seed])
        return [one for one in wanted if one not in self._lines]

    def stem(self, prompt: str, seed: int) -> Path:
        """Where the sample of this prompt and seed is to be written, without the suffix: a place that is free."""
        number = self._numbers.setdefault(prompt, max([-1, *self._numbers.values()]) + 1)
        while self._is_taken(number, seed):
            # by a file that no line names, whoever made it
            number = self._numbers[prompt] = max([number, *self._numbers.values()]) + 1
        return self.folder / f"{number:05d}-seed{seed}"

    def add(self, file: Path, prompt: str, seed: int) -> None:
        """Notes a file that has been written."""
        line = {"file": file.name, "prompt": prompt, "seed": seed} | self.settings
        append_line(self._index, line)
        self._lines[prompt, seed] = line

    def _is_taken(self, number: int, seed: int) -> bool:
        return any(self.folder.glob(f"{number:05d}-seed{seed}.*"))

    def _check(self, line: dict) -> None:
        names = [name for name, now in self.settings.items() if line.get(name) != now]
        if not names:
            return
        how = ", ".join(f"{name} {line[name]} there, {self.settings[name]} now" for name in names if name in line)
        raise ValueError(
            f"{self.folder} holds {line['prompt'][:60]!r} with seed {line['seed']} already ({line['file']}), drawn "
            f"{f'otherwise ({how})' if how else 'by an earlier version, which did not note how'}; name another folder "
            "with --out"
        )


def _number(file: str) -> int:
    found = _NAME.fullmatch(file)
    return int(found[1]) if found else 0
