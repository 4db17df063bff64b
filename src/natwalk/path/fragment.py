"""Carries a datagram larger than the path's MTU as pieces, for the moments when a path got narrower.

A QUIC connection keeps the datagram size it began with. When it began on a wide path (loopback, jumbo
frames) and moves to a narrower one, its datagrams are cut here and joined on the other side. A piece starts
with 0x81, which is neither STUN (RFC 8489 §5: 0x00-0x3F), nor ChannelData (RFC 8656 §12: 0x40-0x4F), nor a
QUIC packet (RFC 9000 §17: the fixed bit 0x40 is set), then index, count and a 16-bit identifier.
"""

from __future__ import annotations

import struct
from typing import Final

MARK: Final = 0x81
_HEADER: Final = struct.Struct("!BBBH")
MAX_PIECES: Final = 64
MAX_OPEN: Final = 32
"""Datagrams being joined at one time; the oldest is given up for a newer one."""


class Fragmenter:
    """Cuts datagrams into pieces of at most ``mtu`` bytes each."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0

    def split(self, datagram: bytes, mtu: int) -> list[bytes]:
        """The pieces of ``datagram``, each at most ``mtu`` bytes; empty when it would take too many."""
        room = mtu - _HEADER.size
        count = -(-len(datagram) // room)
        if count > MAX_PIECES:
            return []
        self._next = (self._next + 1) & 0xFFFF
        return [
            _HEADER.pack(MARK, index, count, self._next) + datagram[index * room : (index + 1) * room]
            for index in range(count)
        ]


class Reassembler:
    """Joins pieces back into datagrams; bounded, and indifferent to order, loss and duplicates."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, dict[int, bytes]]] = {}

    def add(self, piece: bytes) -> bytes | None:
        """Take a piece; the whole datagram when it was the last one missing, else None."""
        if len(piece) <= _HEADER.size:
            return None
        _, index, count, identifier = _HEADER.unpack_from(piece)
        if not 0 < count <= MAX_PIECES or index >= count:
            return None
        known, parts = self._open.get(identifier, (0, {}))
        if known != count:
            self._open.pop(identifier, None)
            while len(self._open) >= MAX_OPEN:
                del self._open[next(iter(self._open))]
            parts = {}
            self._open[identifier] = (count, parts)
        parts.setdefault(index, piece[_HEADER.size :])
        if len(parts) < count:
            return None
        del self._open[identifier]
        return b"".join(parts[n] for n in range(count))
