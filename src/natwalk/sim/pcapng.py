"""A run as a pcapng file: one interface a link, IP and UDP headers made for it, times in nanoseconds.

The format is draft-ietf-opsawg-pcapng. Each link is captured where tcpdump would run on its inner node: what
that node sends is seen as it goes on the line, what is sent to it as it comes off. The IPv4 identification is
the packet's serial number, the same on its whole way, so that a datagram can be followed through NATs.
Channels carry no packets and are not in it.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import BinaryIO, Final

from natwalk.nat import Packet
from natwalk.nat.wire import encode
from natwalk.sim.clock import WALL_OFFSET, Clock
from natwalk.sim.link import Link, Tap

SNAPLEN: Final = 65_535
_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_PACKET: Final = 6
_BYTE_ORDER: Final = 0x1A2B3C4D
_RAW: Final = 101
"""Link type: IP without a link header, of either version."""
_NAME: Final = 2
_RESOLUTION: Final = 9
_FLAGS: Final = 2
_APPLICATION: Final = 4
_INBOUND, _OUTBOUND = 1, 2
_EPB: Final = Struct("<IIIII")
_NANO: Final = 1_000_000_000


class Capture:
    """Writes packets to ``stream`` as they happen. Make it by :meth:`Network.capture`."""

    def __init__(self, stream: BinaryIO, clock: Clock) -> None:
        self.packets = 0
        self._stream = stream
        self._clock = clock
        self._interfaces = 0
        section = pack("<IHHq", _BYTE_ORDER, 1, 0, -1) + _option(_APPLICATION, b"natwalk simulator")
        self._block(_SECTION, section + _END)

    def add(self, link: Link) -> None:
        """Capture ``link`` as one more interface."""
        number = self._interfaces
        self._interfaces += 1
        options = _option(_NAME, link.name.encode()) + _option(_RESOLUTION, b"\x09") + _END
        self._block(_INTERFACE, pack("<HHI", _RAW, 0, SNAPLEN) + options)
        link.outward.tap = self._tap(number, _OUTBOUND, link.outward.tap)
        link.inward.far_tap = self._tap(number, _INBOUND, link.inward.far_tap)

    def _tap(self, interface: int, direction: int, other: Tap | None) -> Tap:
        def tap(packet: Packet, serial: int) -> None:
            if other is not None:
                other(packet, serial)
            self._write(packet, serial, interface, direction)

        return tap

    def _write(self, packet: Packet, serial: int, interface: int, direction: int) -> None:
        self.packets += 1
        data = encode(packet, identification=serial & 0xFFFF)
        # In two steps: a float of Unix time resolves only a quarter of a microsecond.
        stamp = int(WALL_OFFSET) * _NANO + round(self._clock.now * _NANO)
        head = _EPB.pack(interface, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
        options = _option(_FLAGS, pack("<I", direction)) + _END
        self._block(_PACKET, head + _padded(data) + options)

    def _block(self, kind: int, body: bytes) -> None:
        length = len(body) + 12
        self._stream.write(pack("<II", kind, length) + body + pack("<I", length))


_END: Final = bytes(4)


def _option(code: int, value: bytes) -> bytes:
    return pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
