"""Samples and scores on disk: lines of JSON that several processes may add to, and the files that they name."""

import json
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from benchmarks.evaluation.lines import LineWriter, read_lines
from benchmarks.evaluation.metrics.feature_cache import frames_key
from benchmarks.evaluation.prompts import Prompt, text_mark
from benchmarks.evaluation.shard import Shard
from seppo_core.config.messages import first_line
from seppo_core.io.atomic import save_json
from seppo_core.judging.columns import Score
from seppo_image.commands import write_image
from seppo_video.commands import write_video
from seppo_video.frames import open_clip, read_frames

MANIFEST = "manifest"
ABOUT = "run.json"
CHECKED = "checked"
"""Lines that say of files that were touched since they were drawn that they hold the same pixels."""
READ = "read"
"""Lines that say of prompts whether the text encoder reads them to the end."""


@dataclass(frozen=True)
class Record:
    """One sample: where it is, or the reason why it could not be drawn."""

    key: str
    """Key of the prompt (`Prompt.key`)."""
    seed: int
    text: str
    file: str | None
    sha256: str | None
    """Hash of the pixels, whatever file holds them; scores are kept under it."""
    reason: str | None = None
    seconds: float = 0.0
    stat: Sequence[int] | None = None
    """`file_stat` of the file as it was written; None in manifests of before."""


class SampleStore:
    """The samples of one model drawn in one way, under a folder that is named after both."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.records: dict[tuple[str, int], Record] = {}
        for line in read_lines(folder, MANIFEST):
            record = Record(**line)
            self.records[record.key, record.seed] = record
        self._checked = {line["file"]: line for line in read_lines(folder, CHECKED)}

    def find(self, prompt: Prompt, seed: int) -> Record | None:
        """The record of a sample; None if it was never drawn or its file is gone."""
        record = self.records.get((prompt.key, seed))
        if record is None or record.text != prompt.text:
            return None
        if record.file is not None and not (self.folder / record.file).is_file():
            return None
        return record

    def write(self, prompt: Prompt, seed: int, frames: UInt8[Tensor, "f h w 3"], seconds: float) -> Record:
        """Writes the file, whole or not at all; the caller puts the record into a manifest."""
        stem = self.folder / prompt.key / f"s{seed}"
        path = write_image(stem, frames) if len(frames) == 1 else write_video(stem, frames, lossless=True)
        key = frames_key(rearrange(frames, "f h w c -> f c h w"))
        file = path.relative_to(self.folder).as_posix()
        return Record(prompt.key, seed, prompt.text, file, key, None, round(seconds, 3), file_stat(path))

    def note_read(self, prompts: Sequence[Prompt], cut: Collection[int] | None, shard: Shard | None) -> None:
        """Writes down beside the samples which prompts are cut, by index; None if that cannot be told.

        Samples that are found again were drawn by a model that is then not loaded.
        """
        known = self._read()
        with LineWriter(self.folder, READ, shard) as writer:
            for number, prompt in enumerate(prompts):
                mark = text_mark(prompt.text)
                if mark not in known:
                    writer.write({"text": mark, "cut": None if cut is None else number in cut})

    def truncated(self, prompts: Sequence[Prompt]) -> int | None:
        """How many of the prompts the text encoder cuts; None if that is not known of all."""
        known = self._read()
        found = [known.get(text_mark(prompt.text)) for prompt in prompts]
        return None if None in found else sum(map(bool, found))

    def _read(self) -> dict[str, bool | None]:
        return {line["text"]: line["cut"] for line in read_lines(self.folder, READ)}

    def sampler(self) -> dict[str, str]:
        """The device and versions that drew the samples; empty if none was drawn yet."""
        path = self.folder / ABOUT
        return json.loads(path.read_text(encoding="utf-8")).get("sampler", {}) if path.is_file() else {}

    def writer(self, about: dict, shard: Shard | None) -> "ManifestWriter":
        """A manifest to add records to; `about` says in run.json what the samples are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / ABOUT).exists():
            save_json(self.folder / ABOUT, about)
        return ManifestWriter(self, shard)

    def read(self, record: Record) -> UInt8[Tensor, "f 3 h w"]:
        """The frames of a sample. ValueError if the file holds other pixels than were drawn."""
        if record.file is None:
            raise ValueError(f"{record.key} with seed {record.seed} was not drawn: {record.reason}")
        path = self.folder / record.file
        try:
            frames = _decoded(path)
        # whatever a decoder says of damage
        except Exception as error:
            raise ValueError(f"{path} is damaged ({first_line(error)}); remove it to draw it again") from error
        if frames_key(frames) != record.sha256:
            raise ValueError(f"{path} was changed after it was drawn; remove it to draw it again")
        return frames

    def is_sound(self, record: Record) -> bool:
        """Whether the file still holds the pixels that were drawn. It is decoded only if it was touched since."""
        path = self.folder / str(record.file)
        found = file_stat(path)
        known = self._checked.get(str(record.file), {})
        if found == record.stat or (known.get("stat"), known.get("sha256")) == (found, record.sha256):
            return True
        try:
            self.read(record)
        except ValueError:
            return False
        self._checked[str(record.file)] = line = {"file": record.file, "stat": found, "sha256": record.sha256}
        # a report can be made from a cache that others own: then the next one decodes again
        with suppress(OSError), LineWriter(self.folder, CHECKED) as writer:
            writer.write(line)
        return True


class ManifestWriter(LineWriter):
    """Adds records to a store and to its manifest."""

    def __init__(self, store: SampleStore, shard: Shard | None):
        super().__init__(store.folder, MANIFEST, shard)
        self.store = store

    def add(self, record: Record) -> None:
        self.write(asdict(record))
        self.store.records[record.key, record.seed] = record


def file_stat(path: Path) -> list[int]:
    """What changes when a file is written to: its size and times. The second time cannot be set back."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _decoded(path: Path) -> UInt8[Tensor, "f 3 h w"]:
    """All frames of a picture (one) or a clip, 8 bits."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            frames = np.array(image.convert("RGB"))[None]
    else:
        clip = open_clip(path)
        frames = np.stack(read_frames(clip, list(range(len(clip))), np.array))
    return rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "f h w c -> f c h w").contiguous()


def sample_seed(prompt: Prompt, seed: int) -> int:
    """Where the noise of a sample comes from: prompt and seed alone, hence shared by all models and any order."""
    return int.from_bytes(sha256(f"{prompt.key} {seed}".encode()).digest()[:8], "little") >> 1


STEM = "scores"


def score_key(sample: str, prompt_mark: str, reference: str | None) -> str:
    """The key of a score: everything that it depends on beside the metric."""
    return f"{sample} {prompt_mark} {reference or '-'}"


class ScoreStore:
    """The scores of one metric with one fingerprint, under `folder/<metric>@<fingerprint>/`."""

    def __init__(self, folder: Path, metric: str, fingerprint: str):
        slug = re.sub(r"[^\w.,=-]+", "_", metric).strip("_")
        self.folder = folder / f"{slug}@{fingerprint[:12]}"
        self.metric, self.fingerprint = metric, fingerprint
        self.scores: dict[str, Score] = {}
        for line in read_lines(self.folder, STEM):
            self.scores[line["key"]] = Score(line.get("values") or {}, line.get("reason"))

    def writer(self, about: dict[str, object], shard: Shard | None) -> "ScoreWriter":
        """A file to add scores to; `about` says in judge.json what they depend on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "judge.json").exists():
            save_json(self.folder / "judge.json", {"fingerprint": self.fingerprint, **about})
        return ScoreWriter(self, shard)


class ScoreWriter(LineWriter):
    """Adds scores to a store and to its file."""

    def __init__(self, store: ScoreStore, shard: Shard | None):
        super().__init__(store.folder, STEM, shard)
        self.store = store

    def add(self, key: str, score: Score) -> None:
        self.write(
            {"key": key, "values": score.values} if score.reason is None else {"key": key, "reason": score.reason}
        )
        self.store.scores[key] = score
