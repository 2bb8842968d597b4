"""Hashes of files, of JSON and of names, and positions at which a hash repeats."""

import json
from hashlib import blake2b, file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def sha256_json(content: object) -> str:
    """SHA-256 of what `content` is as JSON, whatever the order of its keys, as 64 hexadecimal digits."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hash64(content: bytes) -> int:
    """A hash of 64 bits that is the same in every process; never 0, which callers may use for "no value"."""
    return int.from_bytes(blake2b(content, digest_size=8).digest()) or 1


def repeats(hashes: "np.ndarray") -> dict[int, int]:
    """For every position whose hash stood earlier, the first position with that hash; hashes of 0 are ignored."""
    # imported here, so that what only hashes files needs no numpy
    import numpy as np

    order = np.argsort(hashes, kind="stable")
    same = (hashes[order][1:] == hashes[order][:-1]) & (hashes[order][1:] != 0)
    found, first = {}, 0
    for place in np.flatnonzero(same):
        if place == 0 or not same[place - 1]:
            first = int(order[place])
        found[int(order[place + 1])] = first
    return found
