"""A folder of pictures or clips as a model: those that another program drew of the same prompts."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from benchmarks.evaluation.generate import Outcome, missing
from benchmarks.evaluation.media_files import TABLES, composed, media_files
from benchmarks.evaluation.prompt_files import rows_of
from benchmarks.evaluation.prompts import Prompt
from benchmarks.evaluation.protocols import Protocol
from benchmarks.evaluation.references import STYLE
from benchmarks.evaluation.shard import Shard
from benchmarks.evaluation.store import Record, SampleStore
from seppo_core.config.messages import first_line
from seppo_core.data.pictures import read_picture
from seppo_core.io.progress import progress_bar
from seppo_core.judging.video_pixels import even_frames
from seppo_core.report.wording import counted, some
from seppo_video.frames import open_clip, read_frames

FILE_COLUMNS = ("file", "file_name", "filename", "image", "video", "path")
TEXT_COLUMNS = ("prompt", "caption", "text")
ABSENT = "no file of this prompt and seed"


class MadeElsewhere:
    """The file of every prompt and seed: by a table with `file`, `prompt` and `seed`, or by names.

    Names are the prompt's id (`7.png`, one sample a prompt), or id and seed (`7-seed0.png`, `7_0.png`, `7/0.png`); ids
    that begin anew in each file of prompts are told apart by folders called after the files (`anime/7.png`).
    """

    def __init__(self, folder: Path, protocol: Protocol, prompts: Sequence[Prompt]):
        self.folder, self.protocol, self.prompts = folder, protocol, prompts
        self.all = list(media_files(folder, protocol.kind))
        table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
        self.table = table
        self.found = self._by_names() if table is None else self._by_table(table)

    def problem(self) -> str | None:
        """Why nothing can be taken from the folder, naming both sides; None if something can."""
        if self.found:
            return None
        if self.table is not None:
            listed = some([f"“{text}”" for text in self._listed(self.table)], 2) or "no file that is there"
            texts = some([f"“{prompt.text}”" for prompt in self.prompts], 2)
            return (
                f"{self.table} lists {listed}, and none of the prompts ({texts}); give each line the same text, a file "
                "and, if there are several of a prompt, a seed"
            )
        kind = "pictures" if self.protocol.kind == "image" else "clips"
        there = some([file.relative_to(self.folder).as_posix() for file in self.all], 3) or f"no {kind}"
        ids = some([prompt.given or prompt.id for prompt in self.prompts], 3)
        return (
            f"{self.folder} holds {there}, and no file of any prompt (ids {ids}); call the files by id and seed, "
            f"e.g. {self.prompts[0].given or self.prompts[0].id}-seed{self.protocol.seeds[0]}, or add a "
            "metadata.jsonl with file_name, prompt and seed"
        )

    def remark(self) -> str:
        """How many files are used, and which are not."""
        wanted = len(self.prompts) * len(self.protocol.seeds)
        unused = sorted({file.relative_to(self.folder).as_posix() for file in set(self.all) - set(self.found.values())})
        more = f"; {counted(len(unused), 'file')} of no prompt and seed: {some(unused)}" if unused else ""
        return f"{len(self.found)} of {counted(wanted, 'sample')} in {self.folder}{more}"

    def read(self, prompt: Prompt, seed: int) -> UInt8[Tensor, "f h w 3"]:
        """A picture as it is, decoded as those that a model is trained on; of a clip the protocol's number of frames.

        FileNotFoundError if there is none of this prompt and seed, ValueError if it cannot be read.
        """
        path = self.found.get((prompt.key, seed))
        if path is None:
            raise FileNotFoundError(ABSENT)
        if self.protocol.kind == "image":
            return torch.from_numpy(np.array(read_picture(path)))[None]
        clip = open_clip(path)
        frames = read_frames(clip, even_frames(len(clip), self.protocol.frames).tolist(), np.array)
        return torch.from_numpy(np.stack(frames))

    def _listed(self, table: Path) -> dict[str, list[tuple[int | None, Path]]]:
        """Seeds, if they are given, and files by their prompt."""
        found: dict[str, list[tuple[int | None, Path]]] = defaultdict(list)
        known = {file.relative_to(self.folder).as_posix(): file for file in self.all}
        for _, row in rows_of(table):
            fields = {str(name).casefold(): value for name, value in row.items()} if isinstance(row, dict) else {}
            file = next((known[str(fields[c])] for c in FILE_COLUMNS if str(fields.get(c)) in known), None)
            text = next((str(fields[c]).strip() for c in TEXT_COLUMNS if c in fields), None)
            seed = str(fields.get("seed", "")).strip()
            if file is not None and text is not None:
                found[text].append((int(seed) if seed.lstrip("-").isdecimal() else None, file))
        return found

    def _by_table(self, table: Path) -> dict[tuple[str, int], Path]:
        by_text, found = self._listed(table), {}
        for prompt in self.prompts:
            files = by_text.get(prompt.text, [])
            seeded = {seed: file for seed, file in files if seed is not None}
            # without seeds, in the order of the table
            plain = dict(zip(self.protocol.seeds, (file for seed, file in files if seed is None), strict=False))
            for seed in self.protocol.seeds:
                if (file := seeded.get(seed, plain.get(seed))) is not None:
                    found[prompt.key, seed] = file
        return found

    def _by_names(self) -> dict[tuple[str, int], Path]:
        named = {composed(file.relative_to(self.folder).with_suffix("").as_posix()): file for file in self.all}
        owners: dict[str, set[str]] = defaultdict(set)
        for prompt in self.prompts:
            owners[prompt.given or prompt.id].add(prompt.key)
        found = {}
        for prompt in self.prompts:
            for seed in self.protocol.seeds:
                names = self._names(prompt, seed, owners)
                if (file := next((named[name] for name in names if name in named), None)) is not None:
                    found[prompt.key, seed] = file
        return found

    def _names(self, prompt: Prompt, seed: int, owners: dict[str, set[str]]) -> Iterator[str]:
        styles = [value for column, value in prompt.categories if column == STYLE]
        for own in dict.fromkeys(filter(None, (prompt.given, prompt.id, prompt.key))):
            stems = [f"{style}/{own}" for style in styles]
            if len(owners.get(own, ())) < 2:
                stems.append(own)
            for stem in map(composed, stems):
                yield from (f"{stem}-seed{seed}", f"{stem}/seed{seed}", f"{stem}/s{seed}", f"{stem}/{seed}")
                yield from (f"{stem}_{seed}", f"{stem}-{seed}")
                if len(self.protocol.seeds) == 1:
                    yield stem


def take(
    store: SampleStore, made: MadeElsewhere, about: dict, *, shard: Shard | None = None, retry: bool = False, name=""
) -> Outcome:
    """Copies what `store` lacks into it, as if it had been drawn; of what is missing or broken the reason is kept."""
    prompts, seeds = made.prompts, made.protocol.seeds
    wanted = len(prompts if shard is None else shard.of(list(prompts))) * len(seeds)
    jobs = missing(store, prompts, seeds, shard, retry)
    failed = 0
    if not jobs:
        return Outcome(0, wanted, 0)
    with store.writer(about, shard) as manifest, progress_bar(len(jobs), unit="sample", description=name) as bar:
        for prompt, seed in jobs:
            try:
                record = store.write(prompt, seed, made.read(prompt, seed), 0.0)
            # decoders raise whatever they like for damage
            except Exception as error:
                record = Record(prompt.key, seed, prompt.text, None, None, first_line(error))
                failed += 1
            manifest.add(record)
            bar.update()
    return Outcome(len(jobs) - failed, wanted - len(jobs), failed)
