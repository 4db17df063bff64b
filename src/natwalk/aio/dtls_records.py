"""As much of DTLS's record layer as is needed around OpenSSL (RFC 6347 §4.1)."""

from __future__ import annotations

from struct import Struct
from typing import Final

FIRST_BYTES: Final = range(20, 64)
"""A datagram's first byte when it is DTLS (RFC 7983)."""

_HEADER: Final = Struct("!BHH6sH")  # content type, version, epoch, sequence number, length
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1


def is_client_hello(datagram: bytes) -> bool:
    """Whether a datagram begins with a ClientHello that is not encrypted."""
    if len(datagram) <= _HEADER.size or datagram[0] != _HANDSHAKE or datagram[_HEADER.size] != _CLIENT_HELLO:
        return False
    epoch: int = _HEADER.unpack_from(datagram)[2]
    return epoch == 0


def datagrams(records: bytes, mtu: int) -> list[bytes]:
    """Cut a row of records into datagrams of at most ``mtu`` bytes; a longer record is one of its own."""
    cut: list[bytes] = []
    start = end = 0
    while end + _HEADER.size <= len(records):
        following = end + _HEADER.size + _HEADER.unpack_from(records, end)[4]
        if following - start > mtu and end > start:
            cut.append(records[start:end])
            start = end
        end = following
    if start < len(records):
        cut.append(records[start:])
    return cut
