"""The PROXY protocol, versions 1 and 2: how a load balancer says whom a connection really comes from.

The header stands before everything else, TLS included. Whether to expect one is for the listener to know:
a header is believed only from a configured proxy, and never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final

from natwalk.core import Address, MalformedMessage

HEADER_LIMIT: Final = 4096
"""Bytes of the longest header of version 2 taken, type-length-values included."""

_V1_LIMIT: Final = 107  # with the CRLF, as its specification says
_V1_START: Final = b"PROXY "
_V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEADER: Final = Struct("!12sBBH")
_V2_LOCAL: Final = 0x20
_V2_PROXY: Final = 0x21
_V2_TCP4: Final = 0x11
_V2_TCP6: Final = 0x21
_V2_ADDRESSES: Final = {_V2_TCP4: Struct("!4s4sHH"), _V2_TCP6: Struct("!16s16sHH")}
_V1_FIELDS: Final = 6


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Who connected to whom at the proxy.

    Both are None when the proxy speaks for itself (LOCAL, a health check) or does not know (UNKNOWN): then
    the connection's own addresses count.
    """

    source: Address | None = None
    destination: Address | None = None


class ProxyParser:
    """Reads one header off the start of a stream; what follows it comes from :meth:`rest`."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> ProxyHeader | None:
        """The header once it is complete, None before.

        Raises MalformedMessage when the stream begins with anything else, or with one that is too long or
        not well-formed; the connection must then be closed.
        """
        self._buffer += data
        start = bytes(self._buffer[: len(_V2_SIGNATURE)])
        if _V2_SIGNATURE.startswith(start):
            return self._feed_v2() if len(start) == len(_V2_SIGNATURE) else None
        if _V1_START.startswith(start[: len(_V1_START)]):
            return self._feed_v1()
        raise MalformedMessage("no PROXY protocol header")

    def rest(self) -> bytes:
        """What came after the header; forgotten here."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _feed_v1(self) -> ProxyHeader | None:
        end = self._buffer.find(b"\r\n", 0, _V1_LIMIT)
        if end < 0:
            if len(self._buffer) >= _V1_LIMIT:
                raise MalformedMessage("a PROXY protocol line does not end")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return _parse_line(line)

    def _feed_v2(self) -> ProxyHeader | None:
        if len(self._buffer) < _V2_HEADER.size:
            return None
        _, command, family, length = _V2_HEADER.unpack_from(self._buffer)
        end = _V2_HEADER.size + length
        if command not in {_V2_LOCAL, _V2_PROXY}:
            raise MalformedMessage(f"PROXY protocol version and command {command:#04x}")
        if end > HEADER_LIMIT:
            raise MalformedMessage(f"a PROXY protocol header of {end} bytes")
        if len(self._buffer) < end:
            return None
        block = bytes(self._buffer[_V2_HEADER.size : end])
        del self._buffer[:end]
        if command == _V2_LOCAL:
            return ProxyHeader()
        return _parse_block(family, block)


def _parse_line(line: bytes) -> ProxyHeader:
    """The header of version 1, without its CRLF."""
    try:
        fields = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise MalformedMessage("a PROXY protocol line is not ASCII") from None
    if fields[1] == "UNKNOWN":
        return ProxyHeader()
    if len(fields) != _V1_FIELDS or fields[1] not in {"TCP4", "TCP6"}:
        raise MalformedMessage("a PROXY protocol line of unknown form")
    kind = IPv4Address if fields[1] == "TCP4" else IPv6Address
    try:
        hosts = [str(kind(text)) for text in fields[2:4]]
        source, destination = (
            Address(host, _port(text)) for host, text in zip(hosts, fields[4:], strict=True)
        )
    except ValueError:
        raise MalformedMessage("a PROXY protocol line without addresses") from None
    return ProxyHeader(source, destination)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > len("65535"):
        raise ValueError(f"port {text!r}")
    return int(text)


def _parse_block(family: int, block: bytes) -> ProxyHeader:
    """The addresses of version 2; the type-length-values behind them are skipped."""
    layout = _V2_ADDRESSES.get(family)
    if layout is None:
        return ProxyHeader()  # UNSPEC, UNIX or datagrams: to be treated as unknown
    if len(block) < layout.size:
        raise MalformedMessage("a PROXY protocol header without its addresses")
    source, destination, source_port, destination_port = layout.unpack_from(block)
    kind = IPv4Address if family == _V2_TCP4 else IPv6Address
    return ProxyHeader(
        Address(str(kind(source)), source_port), Address(str(kind(destination)), destination_port)
    )
