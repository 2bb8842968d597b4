"""The members of an uncompressed tar with their offsets, and which are refused. Nothing is unpacked to disk.

Headers are read here rather than by `tarfile`, which takes three times as long and ends silently at a damaged header,
so that all later samples would be missing without a word.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from seppo_core.data.records import leaves_folder

BLOCK = 512
MAX_HEADER = 1024**2
"""Bytes of a long name or of a pax header; a damaged or hostile one can claim any number."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_NO_CONTENT = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_SPECIAL = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_END = bytes(BLOCK)
_LOOK_AHEAD = 1024**2


class Member(NamedTuple):
    """A file in a tar; `problem` says why it is refused, or is None."""

    name: str
    start: int
    size: int
    problem: str | None = None


class _Header(NamedTuple):
    """The fields of a header that are needed here."""

    name: str
    size: int
    type: bytes

    @classmethod
    def of(cls, block: bytes) -> "_Header | None":
        """None if the block is not a header, by its checksum."""
        total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if len(block) != BLOCK or _number(block[148:156]) != total:
            return None
        name, size, kind = _text(block[:100]), _number(block[124:136]), block[156:157]
        prefix = _text(block[345:500])
        # GNU's own headers keep other things in the place of the prefix
        if prefix and block[257:263] == b"ustar\0":
            name = f"{prefix}/{name}"
        return cls(name, size, kind)


def _number(field: bytes) -> int:
    """Octal digits, or a binary number for what they cannot hold; -1 if it is neither."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:]) if field[0] == 0x80 else -1
    digits = field.split(b"\0")[0].strip()
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return -1


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


class Gap(NamedTuple):
    """A place between two members where the chain of headers breaks; what lies behind it is read on."""

    after: str
    """The member before it, or ""."""
    start: int
    size: int
    problem: str | None
    """What is damaged, or None for zero bytes alone: a hole, or the end mark of the first of two tars that were
    joined."""


class TarDamage(ValueError):
    """From here on the tar cannot be read."""


def read_members(path: Path) -> Iterator[Member | Gap]:
    """The files in `path`, in order, by their headers alone; folders are passed over.

    Links, devices, sparse files and names that point out of the archive are yielded with the reason. Where headers
    break off the next one is looked for, as `tar --ignore-zeros` does, and the gap is yielded. TarDamage if none
    follows, or if the archive is compressed: a compressed one cannot be read by position.
    """
    total = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(6)
        for start, name in COMPRESSED.items():
            if magic.startswith(start):
                raise TarDamage(f"it is compressed ({name}) and cannot be read by position; unpack it to a plain .tar")
        walk = _Walk(file, total)
        while True:
            damage = None
            try:
                yield from walk.members()
            except TarDamage as error:
                damage = error
            start = walk.at
            found, zeros = _next_header(file, start if damage is None else walk.tried + BLOCK)
            if found is None and zeros and damage is None:
                return
            if damage is None and not zeros:
                damage = TarDamage(f"damaged after {walk.count} files: zero bytes, then no header")
            if found is None:
                raise damage
            yield Gap(walk.name, start, found - start, None if damage is None else str(damage))
            walk.at = found


class _Walk:
    """Follows the headers of `file`, of `total` bytes, from the position `at` on."""

    def __init__(self, file: BinaryIO, total: int):
        self.file, self.total, self.at, self.tried, self.count, self.name = file, total, 0, 0, 0, ""

    def members(self) -> Iterator[Member]:
        """The files up to the next zero block, or up to TarDamage; `at` is then where the last sound one ends, `tried`
        where the header is that says what cannot be."""
        at, long_name, pax = self.at, None, {}
        while True:
            self.tried = at
            self.file.seek(at)
            block = self.file.read(BLOCK)
            if block == _END:
                self.at = at
                return
            if not block:
                raise TarDamage(f"it ends after {self.count} files without an end mark; it may be cut off")
            info = _Header.of(block)
            if info is None:
                raise TarDamage(f"damaged after {self.count} files: there is no header where the next should be")
            data = at + BLOCK
            special = info.type in _SPECIAL
            size = info.size if special or "size" not in pax else _whole(pax["size"].encode())
            # links and devices have no content, whatever their header says
            held = 0 if info.type in _NO_CONTENT else size
            if held < 0 or data + held > self.total:
                raise TarDamage(f"cut off or damaged after {self.count} files: {info.name!r} claims {held:,} bytes")
            # a sparse file's map may go on in blocks of its own
            more = info.type == tarfile.GNUTYPE_SPARSE and block[482]
            while more:
                more = self.file.read(BLOCK)[504:505].strip(b"\0")
                data += BLOCK
            at = data + -(-held // BLOCK) * BLOCK
            if special:
                if size > MAX_HEADER:
                    claim = f"a header of {size:,} bytes, over the limit of {MAX_HEADER:,}"
                    raise TarDamage(f"damaged after {self.count} files: {claim}")
                self.file.seek(data)
                text = self.file.read(size)
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    long_name = _text(text)
                elif info.type in _PAX:
                    pax = _pax(text, self.count)
                continue
            name = pax.get("path") or long_name or info.name
            sparse = any(key.startswith("GNU.sparse") for key in pax)
            long_name, pax, self.at = None, {}, at
            if info.type == tarfile.DIRTYPE or (info.type == tarfile.AREGTYPE and info.name.endswith("/")):
                continue
            self.count += 1
            self.name = _printable(name)
            yield Member(self.name, data, size, _problem(name, info.type, sparse))


def _next_header(file: BinaryIO, at: int) -> tuple[int | None, bool]:
    """The position of the first header at or behind `at`, if there is one, and whether all before it is zero."""
    file.seek(at)
    zeros = True
    while chunk := file.read(_LOOK_AHEAD):
        if chunk.count(0) < len(chunk):
            for inside in range(0, len(chunk), BLOCK):
                block = chunk[inside : inside + BLOCK]
                # behind anything but zeros a checksum that fits by chance is less of a danger with the mark of a tar
                if block.count(0) < len(block):
                    if (zeros or block[257:262] == b"ustar") and _Header.of(block) is not None:
                        return at + inside, zeros
                    zeros = False
        at += len(chunk)
    return None, zeros


def _problem(name: str, kind: bytes, sparse: bool) -> str | None:
    if sparse:
        return "refused: it is a sparse file"
    if kind in _REFUSED:
        return f"refused: it is {_REFUSED[kind]}, only plain files are read"
    if kind not in _REGULAR:
        return f"refused: it is of the unknown type {kind!r}, only plain files are read"
    if leaves_folder(name):
        return "refused: its name points out of the archive"
    return None


def _pax(text: bytes, count: int) -> dict[str, str]:
    """Records of the form "LENGTH KEY=VALUE\\n", LENGTH counting the whole of it."""
    found = {}
    while text.rstrip(b"\0"):
        length, space, _ = text.partition(b" ")
        if not space or not 0 < _whole(length) <= len(text):
            raise TarDamage(f"damaged after {count} files: a header of extended attributes")
        key, _, value = text[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        text = text[int(length) :]
    return found


def _whole(digits: bytes) -> int:
    """-1 if it is not a number, or longer than any size: Python refuses to read thousands of digits."""
    return int(digits) if digits.isdigit() and len(digits) < 20 else -1


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "�")
