"""A cache folder while it is being written: which shards are done, and whether the folder is ours."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from seppo_core.cache.manifest import CAPTIONS, FORMAT, READABLE, STARTS, VERSION, Manifest, StoredFile, captions_of
from seppo_core.cache.reader import WinnerCache
from seppo_core.io.atomic import remove_leftovers, save_json, save_tensors, whole_file
from seppo_core.io.checked_json import read_checked, save_checked
from seppo_core.io.hashing import sha256_file, sha256_json
from seppo_core.io.locks import LOCK, READERS, ReadersLock

STARTED = "prepare.json"
PARTS = "parts"
_TABLES = ("index.safetensors", "items.jsonl", "rejected.jsonl")
_SHARD = re.compile(r"(items|text)-\d{5,}\.safetensors")
_NOTE = re.compile(r"(items|text|process)-\d{5,}\.json|\..*\.tmp")


@dataclass(frozen=True)
class ShardNote:
    """What `prepare` notes about a finished shard; `stored` is None if none of its items could be used."""

    stored: StoredFile | None
    items: list[dict[str, str]] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)
    cut: list[dict] = field(default_factory=list)
    """Of a text shard: which of its captions are cut, as `cut_captions` has it."""
    times: list[list] = field(default_factory=list)
    """Of a shard of clips: file, span, rate and evenness of each, as `clip_times` reads it."""


class CacheFolder:
    """Shards are written atomically, each with a note in `parts/`; a shard counts as done once its note exists.

    Notes stay, so that only the damaged shards must be encoded again if `verify` finds any. Only files that `prepare`
    wrote are ever removed.
    """

    def __init__(self, folder: Path, fingerprint: str, settings: dict):
        self.folder, self.fingerprint, self.settings = folder, fingerprint, settings
        self.parts = folder / PARTS
        self.readers = ReadersLock(self.parts)
        """Taken by `claim` before anything is written; who claims releases it."""

    def check_ours(self) -> None:
        """Raises FileExistsError if the folder is a file, or holds the user's files and no cache; changes nothing."""
        if self.folder.exists() and not self.folder.is_dir():
            raise FileExistsError(f"{self.folder} is a file; name a folder for the cache")
        if not self.folder.is_dir() or _read_started(self.folder) is not None:
            return
        foreign = sorted(path.name for path in self.folder.iterdir() if not _is_ours(path))
        if foreign:
            raise FileExistsError(
                f"{self.folder} holds other files, no cache ({', '.join(foreign[:3])}); name a new or an empty folder"
            )

    def adopt(self, earlier: Sequence[dict]) -> bool:
        """Goes on under the first of the `earlier` settings, which say less, whose cache the folder holds.

        False if it holds that of `settings`, or none of these.
        """
        there = (_read_started(self.folder) or {}).get("fingerprint")
        if there == self.fingerprint:
            return False
        for settings in earlier:
            if sha256_json(settings) == there:
                self.fingerprint, self.settings = there, settings
                return True
        return False

    def claim(self, overwrite: bool) -> Manifest | None:
        """Prepares the folder, whose lock is held, for writing; returns the manifest if the cache is finished.

        Raises ValueError if the folder holds or has begun another cache, which `overwrite` removes, if it is damaged,
        or if a run reads it.
        """
        self.check_ours()
        started = _read_started(self.folder)
        if started is not None:
            if overwrite or (started["fingerprint"] != self.fingerprint and self._holds_nothing()):
                self.readers.exclude()
                self._start_over()
            elif started["fingerprint"] == self.fingerprint:
                remove_leftovers(self.folder)
                if "notes" in started:
                    tqdm.write(
                        f"{self.folder / 'manifest.json'} was damaged and is made anew from the notes in {PARTS}"
                    )
                    self.reopen()
                elif (self.folder / "manifest.json").is_file():
                    (self.folder / STARTED).unlink(missing_ok=True)
                    cache = WinnerCache(self.folder)
                    cache.check()
                    return cache.manifest
            else:
                differing = [
                    f"{key} {str(started['settings'].get(key))[:40]} there, {str(value)[:40]} now"
                    for key, value in self.settings.items()
                    if started["settings"].get(key) != value
                ]
                raise ValueError(
                    f"{self.folder} holds a cache made otherwise ({'; '.join(differing) or 'older format'}); name "
                    "another data.cache, or replace it with --overwrite true"
                )
        self.readers.exclude()
        self._write_header()
        self.parts.mkdir(exist_ok=True)
        remove_leftovers(self.parts)
        self._drop_processes()
        self._drop_unaccounted()
        return None

    def note(self, name: str) -> ShardNote | None:
        """The note about shard `name`, e.g. "items-00003"; None if the shard is not done."""
        path = self.parts / f"{name}.json"
        if not path.is_file():
            return None
        try:
            found = read_checked(path)
            if found["fingerprint"] != self.fingerprint:
                return None
            stored = None if found["stored"] is None else StoredFile.from_json(found["stored"])
            note = ShardNote(stored, found["items"], found["rejected"], found.get("cut", []), found.get("times", []))
        except (ValueError, KeyError, TypeError):
            return None
        return note if stored is None or stored.size_problem(self.folder) is None else None

    def forget_damaged(self) -> None:
        """Makes every shard whose content is not what was written count as not done; says so."""
        for path in sorted(self.parts.glob("*.json")):
            note = self.note(path.stem)
            problem = note and note.stored and note.stored.content_problem(self.folder)
            if problem:
                tqdm.write(f"{self.folder / note.stored.file} {problem}; it is encoded again")
                self.forget(path.stem)

    def save(
        self,
        name: str,
        tensors: dict[str, Tensor],
        count: int,
        items: Sequence[dict] = (),
        rejected: Sequence[dict] = (),
        cut: Sequence[dict] = (),
        times: Sequence[list] = (),
    ) -> ShardNote:
        """Writes shard `name` with `count` items or captions, unless that is 0, and then the note that it is done."""
        stored = None
        if count:
            save_tensors(self.folder / f"{name}.safetensors", tensors)
            stored = self._stored(f"{name}.safetensors", count)
        note = ShardNote(stored, list(items), list(rejected), list(cut), list(times))
        save_checked(self.parts / f"{name}.json", {"fingerprint": self.fingerprint} | asdict(note))
        return note

    def save_rejected(self, notes: Iterator[ShardNote]) -> StoredFile:
        """Writes `rejected.jsonl`, in the order of the source."""
        lines = 0
        with whole_file(self.folder / "rejected.jsonl") as path, path.open("w", encoding="utf-8") as file:
            for note in notes:
                for rejection in note.rejected:
                    file.write(json.dumps(rejection, ensure_ascii=False) + "\n")
                    lines += 1
        return self._stored("rejected.jsonl", lines)

    def save_items(self, notes: Iterator[ShardNote], text_rows: dict[str, int]) -> tuple[StoredFile, StoredFile]:
        """Writes `items.jsonl` and the index into it and into the text shards."""
        captions, starts, offsets, end = [], [0], [], 0
        with whole_file(self.folder / "items.jsonl") as path, path.open("wb") as file:
            for note in notes:
                for item in note.items:
                    captions += [text_rows[caption] for caption in captions_of(item)]
                    starts.append(len(captions))
                    offsets.append(end)
                    end += file.write((json.dumps(item, ensure_ascii=False) + "\n").encode())
        index = {"caption": torch.tensor([captions[start] for start in starts[:-1]]), "line": torch.tensor(offsets)}
        if len(captions) > len(offsets):
            index |= {CAPTIONS: torch.tensor(captions), CAPTIONS + STARTS: torch.tensor(starts)}
        save_tensors(self.folder / "index.safetensors", index)
        return self._stored("items.jsonl", len(offsets)), self._stored("index.safetensors", len(offsets))

    def finish(self, manifest: Manifest) -> None:
        """Writes the manifest, which makes the folder a cache."""
        save_checked(self.folder / "manifest.json", manifest.to_json())
        self._drop_processes()
        (self.folder / STARTED).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Makes shard `name` count as not done; `prepare` removes and encodes it again."""
        (self.parts / f"{name}.json").unlink(missing_ok=True)

    def reopen(self) -> None:
        """Makes a finished cache an unfinished one, which the next `prepare` continues."""
        self._write_header()
        self._drop_finish()

    def _stored(self, file: str, count: int) -> StoredFile:
        path = self.folder / file
        return StoredFile(file, count, path.stat().st_size, sha256_file(path))

    def _holds_nothing(self) -> bool:
        return not (self.folder / "manifest.json").is_file() and not any(self.folder.glob("items-*.safetensors"))

    def _write_header(self) -> None:
        header = {"format": FORMAT, "version": VERSION, "fingerprint": self.fingerprint, "settings": self.settings}
        save_json(self.folder / STARTED, header)

    def _start_over(self) -> None:
        # in this order a kill in between leaves a folder that is still known as ours, and no note on an old shard
        self._drop_notes()
        self._write_header()
        self._drop_finish()

    def _drop_finish(self) -> None:
        for name in ("manifest.json", *_TABLES):
            (self.folder / name).unlink(missing_ok=True)

    def _drop_notes(self) -> None:
        if self.parts.is_dir():
            for path in self.parts.iterdir():
                if _NOTE.fullmatch(path.name):
                    path.unlink()

    def _drop_processes(self) -> None:
        # notes of progress that earlier versions kept here
        for path in self.parts.glob("process-*.json"):
            path.unlink()

    def _drop_unaccounted(self) -> None:
        for path in self.folder.iterdir():
            if _SHARD.fullmatch(path.name) and not (self.parts / f"{path.stem}.json").is_file():
                path.unlink()


def _read_started(folder: Path) -> dict | None:
    """The header of the finished or unfinished cache in `folder`; None if there is none.

    Of a cache whose manifest is damaged it is what the notes about its shards say.
    """
    for name in ("manifest.json", STARTED):
        try:
            found = read_checked(folder / name)
        except (OSError, ValueError):
            continue
        if found.get("format") == FORMAT:
            # a cache of an unknown version has another fingerprint, whatever it says
            return found if found.get("version") in READABLE else {"fingerprint": "", "settings": {}}
    if (folder / "manifest.json").is_file():
        for path in sorted((folder / PARTS).glob("*.json")):
            with suppress(OSError, ValueError, KeyError):
                return {"fingerprint": read_checked(path)["fingerprint"], "settings": {}, "notes": True}
    return None


def recorded_model(folder: Path) -> str | None:
    """The fingerprint of VAE and text encoder that the finished or unfinished cache in `folder` was begun with."""
    return (_read_started(folder) or {}).get("settings", {}).get("model")


def _is_ours(path: Path) -> bool:
    """Whether an entry of a folder without a cache was left by a launch that was killed at its very start."""
    if path.name == PARTS and path.is_dir():
        return all(inside.name in (LOCK, READERS) or _NOTE.fullmatch(inside.name) for inside in path.iterdir())
    return path.name.startswith(".") and path.name.endswith(".tmp")
