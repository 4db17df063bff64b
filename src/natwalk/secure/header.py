"""The part of a QUIC header that tells connections apart, without keys (RFC 8999 §5, RFC 9000 §17.2)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from natwalk.core import MalformedMessage

VERSION_1: Final = 1
CONNECTION_ID_LENGTH: Final = 8
"""The length of the connection IDs that our engine chooses."""

MINIMUM_INITIAL: Final = 1200
"""A datagram with a client's Initial is at least this long (RFC 9000 §14.1)."""

_LONG_HEADER: Final = 0x80
_FIXED_BIT: Final = 0x40


class PacketType(IntEnum):
    """What the first byte says; the long types have their number of RFC 9000 §17.2."""

    INITIAL = 0
    ZERO_RTT = 1
    HANDSHAKE = 2
    RETRY = 3
    SHORT = 4


class Header(NamedTuple):
    """The packet's type and the connection ID it is for."""

    type: PacketType
    destination: bytes


def parse_header(datagram: bytes) -> Header:
    """The header of the first packet in ``datagram``.

    Raises MalformedMessage, with a fixed text, on what is not QUIC version 1.
    """
    if not datagram:
        raise MalformedMessage("empty datagram")
    first = datagram[0]
    if not first & _LONG_HEADER:
        if not first & _FIXED_BIT or len(datagram) < 1 + CONNECTION_ID_LENGTH:
            raise MalformedMessage("not QUIC")
        return Header(PacketType.SHORT, datagram[1 : 1 + CONNECTION_ID_LENGTH])
    version = int.from_bytes(datagram[1:5], "big")
    if version == 0 and len(datagram) >= 5:
        raise MalformedMessage("version negotiation, which natwalk does not use")
    if not first & _FIXED_BIT:
        raise MalformedMessage("not QUIC")
    if version != VERSION_1:
        raise MalformedMessage("not QUIC version 1")
    length = datagram[5] if len(datagram) > 5 else 255
    if length > 20 or len(datagram) < 6 + length:
        raise MalformedMessage("cut QUIC header")
    packet_type = PacketType((first >> 4) & 3)
    if packet_type is PacketType.RETRY:
        raise MalformedMessage("retry, which natwalk does not use")
    return Header(packet_type, datagram[6 : 6 + length])
