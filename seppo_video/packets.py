"""What a clip's packets say of the size of its frames, without decoding them."""

from collections.abc import Iterator

import av

SIZE_IN_CONTAINER = ("ffv1",)
"""Codecs that keep the size of frames beside the packets, once for all."""
_VP9_SYNC = 0x498342
_H264_SPS, _HEVC_SPS = 7, 33


class SizeWatch:
    """Notices, packet by packet in the order of storage, that the size of frames may change within a clip."""

    def __init__(self, codec: av.VideoCodecContext):
        extra = codec.extradata or b""
        self.name = codec.name
        self.known = self.name in (*SIZE_IN_CONTAINER, "vp8", "vp9")
        self._sets: set[bytes] = set()
        self._sizes: set[tuple[int, int]] = set()
        # avcC and hvcC (ISO/IEC 14496-15) say how long the lengths before units are; without them units have none
        if self.name == "h264" and len(extra) > 6 and extra[0] == 1:
            self.known, self._length = True, (extra[4] & 3) + 1
            self._sets |= set(_sets(extra, 6, extra[5] & 31))
        elif self.name == "hevc" and len(extra) > 23 and extra[0] == 1:
            self.known, self._length = True, (extra[21] & 3) + 1
            at = 23
            for _ in range(extra[22]):
                count = int.from_bytes(extra[at + 1 : at + 3], "big")
                units = list(_sets(extra, at + 3, count))
                if extra[at] & 63 == _HEVC_SPS:
                    self._sets |= set(units)
                at += 3 + sum(2 + len(unit) for unit in units)
        # several sets in the header: which one holds where is told by the frames alone
        self.changes = len(self._sets) > 1

    def reason(self) -> str | None:
        """Why the size may change; None if all packets seen keep to one."""
        if not self.known:
            return f"{self.name} does not tell without decoding whether its size changes"
        return "the size of its frames may change" if self.changes else None

    def see(self, packet: av.Packet) -> None:
        if self.changes or not self.known or self.name in SIZE_IN_CONTAINER:
            return
        # an mp4 with a second sample description
        if packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change"):
            self.changes = True
        elif self.name in ("vp8", "vp9"):
            self._sizes |= set((_vp8_sizes if self.name == "vp8" else _vp9_sizes)(bytes(packet)))
            self.changes = len(self._sizes) > 1
        elif packet.is_keyframe:
            self.changes = any(unit not in self._sets for unit in self._parameter_sets(bytes(packet)))

    def _parameter_sets(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at + self._length < len(data):
            start = at + self._length
            at = start + int.from_bytes(data[at:start], "big")
            kind = data[start] & 31 if self.name == "h264" else data[start] >> 1 & 63
            if kind == (_H264_SPS if self.name == "h264" else _HEVC_SPS):
                yield data[start:at]


def _sets(data: bytes, at: int, count: int) -> Iterator[bytes]:
    """`count` units, each behind its length in two bytes."""
    for _ in range(count):
        size = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def _vp8_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """The size in the header of a key frame (RFC 6386, 9.1)."""
    if len(data) >= 10 and not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a":
        yield int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF


def _vp9_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """The sizes that the frames in a packet state; others take an earlier frame's (VP9 bitstream, 7.2 and annex B)."""
    mark = data[-1] if data else 0
    count, width = (mark & 7) + 1, (mark >> 3 & 3) + 1
    index = 2 + count * width
    if mark & 0xE0 == 0xC0 and len(data) > index and data[-index] == mark:
        at = 0
        for place in range(count):
            first = len(data) - index + 1 + place * width
            size = int.from_bytes(data[first : first + width], "little")
            yield from _vp9_size(data[at : at + min(size, 32)])
            at += size
    else:
        yield from _vp9_size(data[:32])


def _vp9_size(head: bytes) -> Iterator[tuple[int, int]]:
    bits = _Bits(head)
    # not a frame, or one that is shown again
    if bits(2) != 2 or ((profile := bits(1) | bits(1) << 1) == 3 and bits(1)) or bits(1):
        return
    inter, shown, resilient = bits(1), bits(1), bits(1)
    if inter:
        intra_only = 0 if shown else bits(1)
        if not resilient:
            bits(2)
        if not intra_only:
            # what it refreshes, three references, and whether it has the size of one of these
            bits(8 + 3 * 4)
            if bits(1) or bits(1) or bits(1):
                return
            yield bits(16) + 1, bits(16) + 1
            return
    if bits(24) != _VP9_SYNC:
        return
    if not inter or profile:
        if profile >= 2:
            bits(1)
        if bits(3) != 7:
            bits(1 + 3 * (profile & 1))
        else:
            bits(profile & 1)
    if inter:
        bits(8)
    yield bits(16) + 1, bits(16) + 1


class _Bits:
    """Reads bits from the highest on; zeros behind the end."""

    def __init__(self, data: bytes):
        self._value, self._left = int.from_bytes(data, "big") << 512, 8 * len(data) + 512

    def __call__(self, count: int) -> int:
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)
