"""JSON files that show whether they are as they were written: they hold a hash of their own content."""

import json
from pathlib import Path

from seppo_core.io.atomic import save_json
from seppo_core.io.hashing import sha256_json

CHECK = "check"


def save_checked(path: Path, content: dict) -> None:
    """Writes `content` atomically, with its hash under the key "check"."""
    save_json(path, checked(content))


def checked(content: dict) -> dict:
    """`content` with its hash under the key "check"."""
    return content | {CHECK: _digest(content)}


def read_checked(path: Path) -> dict:
    """The content that `save_checked` wrote, or that of a JSON file of an earlier version, which has no hash.

    ValueError if the file is damaged; FileNotFoundError if there is none.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    check = found.get(CHECK)
    if check is not None and not is_intact(found):
        raise ValueError("its content is not what was written")
    return {key: value for key, value in found.items() if key != CHECK}


def is_intact(content: dict) -> bool:
    """Whether `content` is what `checked` has made."""
    return content.get(CHECK) == _digest({key: value for key, value in content.items() if key != CHECK})


def _digest(content: dict) -> str:
    # by way of JSON, so that tuples and numbers are as they will be read
    return sha256_json(content)[:16]
