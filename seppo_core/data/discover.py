"""Finds what `data.source` names: a captioned folder, a table, parquet files, tars, or a data set on the Hub.

Without torch, since the command line checks it before anything loads.
"""

import re
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from seppo_core.config.messages import similar_path
from seppo_core.data.walk import is_leftover, pairs, walk_files

Format = Literal["folder", "parquet", "webdataset", "hub"]

PROMPTS = ".txt"
"""Suffix of a text file with one prompt a line."""
TABLES = (".jsonl", ".csv", ".tsv")
_JSON = ("metadata.json", "captions.json", "meta_cap.json")
"""Names of tables in JSON, since folders hold many other files of JSON; any name will do if it is given."""
_SUFFIX: dict[str, Format] = {
    **dict.fromkeys((*TABLES, ".json"), "folder"),
    ".parquet": "parquet",
    ".tar": "webdataset",
}
_SAVED = ("dataset_dict.json", "state.json")
"""In folders that the library `datasets` has saved."""
_METADATA = tuple(f"metadata{suffix}" for suffix in (*TABLES, ".json"))
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_PACKED = re.compile(r".*\.(tar\.\w+|tgz|tbz2|txz|zip)")


class Found(NamedTuple):
    """`files`: the table, the shards or the archives, sorted; none for the hub, nor for a folder with the captions in
    files beside the media. `root`: what paths are relative to. `remark`: what should be said about the choice."""

    format: Format
    root: Path
    files: tuple[Path, ...] = ()
    remark: str = ""


def find_source(source: str, format: Format | Literal["auto"] = "auto", prompts: bool = False) -> Found:
    """Finds `source`: a folder, a file, or a pattern such as data/train-*.parquet or shard-{000..041}.tar; if
    `prompts`, for captions alone, also a text file with one a line.

    Raises FileNotFoundError if nothing does; ValueError if it is of another format than `format`, or could be of two;
    both in one line, with the cure.
    """
    path = Path(source).expanduser()
    if format == "hub":
        if not path.is_dir() and not _HUB_ID.fullmatch(source):
            raise ValueError(f"data.source={source} is neither a Hub dataset id (owner/name) nor a local folder")
        return Found("hub", path)
    if path.is_dir():
        return _in_folder(source, path, format)
    if prompts and path.suffix.lower() == PROMPTS and path.is_file():
        return Found("folder", path.parent, (path,))
    if path.is_file():
        return _checked(source, format, path.parent, [path])
    if any(mark in source for mark in "*?[{"):
        files = _matching(path)
        if not files:
            raise FileNotFoundError(f"data.source={source} matches no file")
        return _checked(source, format, _fixed_part(path), files)
    raise FileNotFoundError(
        f"data.source={source} is not a folder{similar_path(path)}; put files and metadata.jsonl or metadata.csv "
        "there, or name parquet files or tars, or set data.format=hub for a data set of the Hugging Face hub"
    )


def _in_folder(source: str, folder: Path, format: Format | Literal["auto"]) -> Found:
    named = [path for name in ("metadata.jsonl", "metadata.csv") if (path := folder / name).is_file()]
    if format in ("auto", "folder") and len(named) == 2:
        raise ValueError(f"{folder} has both metadata.jsonl and metadata.csv; keep the one that is meant")
    if format in ("auto", "folder") and named:
        return Found("folder", folder, (named[0],))
    if format == "auto" and any((folder / name).is_file() for name in _SAVED):
        return Found("hub", folder)
    held: dict[str, list[Path]] = {".parquet": [], ".tar": []}
    splits: list[Path] = []
    media, beside = 0, False
    for inside, names in walk_files(folder):
        for name in names:
            if (suffix := Path(name).suffix.lower()) in held:
                held[suffix].append(folder / inside / name)
            if name.lower() in _METADATA and inside and "/" not in inside:
                splits.append(folder / inside / name)
        texts = [text for _, text in pairs(names)]
        media, beside = media + len(texts), beside or any(texts)
    tables = sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and not is_leftover(path.name)
        and (path.suffix.lower() in TABLES or path.name.lower() in _JSON)
    )
    candidates: dict[Format, list[Path]] = {
        "folder": tables,
        "parquet": sorted(held[".parquet"]),
        "webdataset": sorted(held[".tar"]),
    }
    chosen = [name for name, files in candidates.items() if files and format in ("auto", name)]
    if len(chosen) > 1:
        raise ValueError(f"data.source={source} could be read as {' or '.join(chosen)}; set data.format to one of them")
    if not chosen and format in ("auto", "folder") and splits:
        return _split(source, splits)
    if not chosen and format in ("auto", "folder") and beside:
        return Found("folder", folder)
    if not chosen:
        looked = {"auto": "tables, parquet files or tars", "folder": "metadata.jsonl and no metadata.csv"}
        missing = looked.get(format, f"files of {format}")
        alone = f", and none of its {media:,} pictures or clips has a text beside it" if media else ""
        raise FileNotFoundError(
            f"{folder} has no {missing}{alone}; write a metadata.jsonl or metadata.csv with file_name and caption, "
            f'e.g. {{"file_name": "a.png", "caption": "a red house"}}, or a.txt beside each a.png{_packed(folder)}'
        )
    if chosen == ["folder"] and len(tables) > 1:
        names = ", ".join(path.name for path in tables[:4])
        raise ValueError(f"data.source={source} has several tables ({names}); name the one that is meant")
    return Found(chosen[0], folder, tuple(candidates[chosen[0]]))


def _split(source: str, tables: list[Path]) -> Found:
    """The table of an image folder's split: of train if there are several."""
    chosen = [table for table in tables if table.parent.name == "train"] if len(tables) > 1 else tables
    if len(chosen) != 1:
        names = ", ".join(sorted(f"{table.parent.name}/{table.name}" for table in tables)[:4])
        raise ValueError(f"data.source={source} has tables in several folders ({names}); name the one that is meant")
    (table,) = chosen
    others = sorted({other.parent.name for other in tables} - {table.parent.name})
    left = f"; {', '.join(others)} is left" if others else ""
    return Found("folder", table.parent, (table,), f"{source}: {table.parent.name}/{table.name} is read{left}")


def _checked(source: str, format: Format | Literal["auto"], root: Path, files: list[Path]) -> Found:
    formats = {_SUFFIX.get(path.suffix.lower()) for path in files}
    odd = next((path for path in files if path.suffix.lower() not in _SUFFIX), None)
    if odd is not None:
        more = "; unpack it to plain .tar files" if _PACKED.fullmatch(odd.name) else ""
        raise ValueError(f"data.source={source}: {odd.name} is none of {', '.join(_SUFFIX)}{more}")
    if len(formats) > 1:
        raise ValueError(f"data.source={source} matches files of {' and '.join(sorted(formats))}; name one kind alone")
    (found,) = formats
    if format not in ("auto", found):
        raise ValueError(f"data.source={source} is of data.format {found}, not {format}; leave data.format out")
    if found == "folder" and len(files) > 1:
        raise ValueError(f"data.source={source} matches {len(files)} tables; name the one that is meant")
    return Found(found, root, tuple(files))


def _matching(pattern: Path) -> list[Path]:
    parts = [_braces(part) for part in pattern.parts]
    found: set[Path] = set()
    for combination in product(*parts):
        path = Path(*combination)
        fixed = _fixed_part(path)
        if fixed == path:
            found |= {path} if path.is_file() else set()
        elif fixed.is_dir():
            found |= {match for match in fixed.glob(str(path.relative_to(fixed))) if match.is_file()}
    return sorted(found)


def _braces(text: str) -> list[str]:
    """webdataset's {000..041} written out, and {a,b}."""
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        return [text]
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if ends is None:
        words = match[1].split(",")
    elif int(ends[2]) - int(ends[1]) >= 1_000_000:
        raise ValueError(f"{match[0]} stands for over a million files; name fewer")
    else:
        words = [f"{number:0{len(ends[1])}}" for number in range(int(ends[1]), int(ends[2]) + 1)]
    return [f"{text[: match.start()]}{word}{rest}" for word in words for rest in _braces(text[match.end() :])]


def _fixed_part(path: Path) -> Path:
    """The folder above the first part that is a pattern; `path` itself if there is none."""
    for count, part in enumerate(path.parts):
        if any(mark in part for mark in "*?[{"):
            return Path(*path.parts[:count])
    return path


def _packed(folder: Path) -> str:
    packed = next((path.name for path in folder.iterdir() if _PACKED.fullmatch(path.name)), None)
    return f"; {packed} is compressed: unpack it to a plain .tar first" if packed else ""
