"""IP fragments: a NAT puts packets together before it translates them (RFC 4787 §11) and may cut them again.

:class:`Reassembler` takes fragments in any order; :func:`fragment` makes them. Both know IPv4 and IPv6.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from natwalk.core import Drops, MalformedMessage
from natwalk.nat.checksum import checksum

TIMEOUT: Final = 30.0
"""Seconds from the first fragment of a packet that came until it is given up."""
PACKETS: Final = 64
"""Packets that may be incomplete at a time; the oldest gives way."""
PIECES: Final = 64
"""Fragments of one packet; it is given up with the next one."""
LONGEST: Final = 65535
"""Bytes of a whole packet."""

_SHORT: Final = Struct("!H")
_FRAGMENT: Final = Struct("!BxHI")
_FRAGMENT_HEADER: Final = 44
_EXTENSIONS: Final = frozenset({0, 43, 60})


class _Piece(NamedTuple):
    key: bytes
    """Equal for the fragments of one packet: addresses, protocol, identification."""
    offset: int
    more: bool
    payload: bytes
    head: bytes
    """What comes before the payload in the whole packet, without its length."""


class _Partial:
    """A packet of which pieces are missing."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.end: int | None = None
        self.head = b""
        self.pieces: dict[int, bytes] = {}


class Reassembler:
    """Puts fragments together; ``drops`` counts what was given up and why. ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        self.drops = Drops()
        self._partial: dict[bytes, _Partial] = {}

    def add(self, data: bytes, now: float) -> bytes | None:
        """The whole packet once ``data`` completes it; None until then. What is no fragment is whole.

        Raises MalformedMessage for what is no IP packet or no possible fragment. Packets whose fragments
        overlap are given up (RFC 8200 §4.5).
        """
        piece = _read(data)
        self._expire(now)
        if piece is None:
            return data
        partial = self._partial.get(piece.key)
        if partial is None:
            partial = self._begin(piece.key, now)
        if not _fits(partial, piece):
            del self._partial[piece.key]
            self.drops.add("fragments overlap or are too many")
            return None
        partial.pieces[piece.offset] = piece.payload
        if piece.offset == 0:
            partial.head = piece.head
        if not piece.more:
            partial.end = piece.offset + len(piece.payload)
        if not partial.head or partial.end != sum(map(len, partial.pieces.values())):
            return None
        del self._partial[piece.key]
        whole = b"".join(partial.pieces[offset] for offset in sorted(partial.pieces))
        return _with_length(partial.head, whole)

    def _begin(self, key: bytes, now: float) -> _Partial:
        if len(self._partial) >= PACKETS:
            del self._partial[next(iter(self._partial))]
            self.drops.add("too many packets incomplete")
        partial = self._partial[key] = _Partial(now)
        return partial

    def _expire(self, now: float) -> None:
        # One timeout for all and never moved: the order of the dict is the order of expiry.
        while self._partial:
            key, oldest = next(iter(self._partial.items()))
            if now < oldest.since + TIMEOUT:
                break
            del self._partial[key]
            self.drops.add("fragments missing")


def fragment(data: bytes, mtu: int, *, identification: int = 0) -> list[bytes]:
    """``data`` in packets of at most ``mtu`` bytes, or as it is when it fits.

    IPv4 keeps its own identification; ``identification`` is for IPv6. Raises ValueError when not even eight
    bytes of payload fit beside the headers.
    """
    if len(data) <= mtu:
        return [data]
    start = (data[0] & 15) * 4 if data[0] >> 4 == 4 else _unfragmentable(data)[0]
    extra = 0 if data[0] >> 4 == 4 else _FRAGMENT.size
    room = (mtu - start - extra) // 8 * 8
    if room < 8:
        raise ValueError(f"nothing fits into {mtu} bytes")
    head, payload = data[:start], data[start:]
    out = []
    for offset in range(0, len(payload), room):
        part = payload[offset : offset + room]
        more = offset + room < len(payload)
        cut = _cut6(head, part, offset, more, identification) if extra else _cut4(head, part, offset, more)
        out.append(cut)
    return out


def _cut4(head: bytes, part: bytes, offset: int, more: bool) -> bytes:
    cut = bytearray(head)
    _SHORT.pack_into(cut, 2, len(head) + len(part))
    _SHORT.pack_into(cut, 6, more << 13 | offset >> 3)
    return _checked(cut) + part


def _cut6(head: bytes, part: bytes, offset: int, more: bool, identification: int) -> bytes:
    at = _unfragmentable(head)[1]
    cut = bytearray(head)
    following, cut[at] = cut[at], _FRAGMENT_HEADER
    cut += _FRAGMENT.pack(following, offset | more, identification)
    _SHORT.pack_into(cut, 4, len(cut) - 40 + len(part))
    return bytes(cut) + part


def _read(data: bytes) -> _Piece | None:
    """The fragment in ``data``; None when it is a whole packet."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        return _read4(data)
    if len(data) >= 40 and data[0] >> 4 == 6:
        return _read6(data)
    raise MalformedMessage(f"not an IP packet: {len(data)} bytes")


def _read4(data: bytes) -> _Piece | None:
    flags = data[6] << 8 | data[7]
    if not flags & 0x3FFF:
        return None
    start, end = (data[0] & 15) * 4, data[2] << 8 | data[3]
    if not 20 <= start <= end <= len(data):
        raise MalformedMessage(f"IPv4 header of {start} bytes, packet of {end}, {len(data)} there")
    head = bytearray(data[:start])
    head[6:8] = b"\0\0"
    key = data[4:6] + data[9:10] + data[12:20]
    return _piece(key, (flags & 0x1FFF) << 3, bool(flags & 0x2000), data[start:end], bytes(head))


def _read6(data: bytes) -> _Piece | None:
    start, at = _unfragmentable(data)
    if data[at] != _FRAGMENT_HEADER:
        return None
    end = 40 + (data[4] << 8 | data[5])
    if not start + _FRAGMENT.size <= end <= len(data):
        raise MalformedMessage(f"IPv6 fragment of {end} bytes, {len(data)} there")
    following, place, identification = _FRAGMENT.unpack_from(data, start)
    head = bytearray(data[:start])
    head[at] = following
    key = data[8:40] + identification.to_bytes(4, "big")
    return _piece(key, place & 0xFFF8, bool(place & 1), data[start + _FRAGMENT.size : end], bytes(head))


def _piece(key: bytes, offset: int, more: bool, payload: bytes, head: bytes) -> _Piece:
    if (more and len(payload) % 8) or not payload or offset + len(payload) + len(head) > LONGEST:
        raise MalformedMessage(f"a fragment of {len(payload)} bytes at {offset}")
    return _Piece(key, offset, more, payload, head)


def _unfragmentable(data: bytes) -> tuple[int, int]:
    """Where the part that every IPv6 fragment repeats ends, and where the type of what follows is."""
    start, at = 40, 6
    while data[at] in _EXTENSIONS and start + 8 <= len(data):
        start, at = start + 8 + data[start + 1] * 8, start
    return start, at


def _fits(partial: _Partial, piece: _Piece) -> bool:
    """Whether ``piece`` overlaps none of those there and lies before the end."""
    end = piece.offset + len(piece.payload)
    if partial.pieces.get(piece.offset) == piece.payload:
        return True  # it came twice
    if len(partial.pieces) >= PIECES or (partial.end is not None and (end > partial.end or not piece.more)):
        return False
    others = partial.pieces.items()
    if not piece.more and any(at + len(part) > end for at, part in others):
        return False
    return all(at + len(part) <= piece.offset or end <= at for at, part in others)


def _with_length(head: bytes, payload: bytes) -> bytes:
    whole = bytearray(head)
    if head[0] >> 4 == 4:
        _SHORT.pack_into(whole, 2, len(head) + len(payload))
        return _checked(whole) + payload
    _SHORT.pack_into(whole, 4, len(head) - 40 + len(payload))
    return bytes(whole) + payload


def _checked(head: bytearray) -> bytes:
    """An IPv4 header with its checksum."""
    head[10:12] = b"\0\0"
    _SHORT.pack_into(head, 10, checksum(head))
    return bytes(head)
