"""How attribute values are written in bytes, with their bounds (RFC 8489 §14).

A codec's ``decode`` raises only :class:`MalformedMessage` and ``encode`` only :class:`LocalProtocolError`.
Codecs are frozen values: two that do the same are equal. They hold no policy: which attribute a message
must or may have is for its user to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from struct import Struct
from typing import Final, Protocol, TypeVar

from natwalk.core import Address, LocalProtocolError, MalformedMessage

T = TypeVar("T")

MAGIC_COOKIE: Final = 0x2112A442
IPV4: Final = 1
IPV6: Final = 2

_U16: Final = Struct("!H")
_U32: Final = Struct("!I")
_U64: Final = Struct("!Q")
_V4: Final = Struct("!xBHI")
_V6: Final = Struct("!xBH16s")
_COOKIE_HIGH: Final = MAGIC_COOKIE >> 16
_COOKIE_96: Final = MAGIC_COOKIE << 96


class ValueCodec(Protocol[T]):
    """Bytes to a value and back; ``transaction_id`` matters to XORed addresses only."""

    def decode(self, data: bytes, transaction_id: bytes) -> T:
        """Read ``data``; raise MalformedMessage when it is not such a value."""

    def encode(self, value: T, transaction_id: bytes) -> bytes:
        """Write ``value`` without padding; raise LocalProtocolError when it is out of bounds."""


def _expect(data: bytes, length: int) -> None:
    if len(data) != length:
        raise MalformedMessage(f"{len(data)} bytes, not {length}")


@dataclass(frozen=True, slots=True)
class Opaque:
    """Bytes as they are, between ``low`` and ``accept`` of them; at most ``send`` when written."""

    low: int = 0
    send: int = 0xFFFF
    accept: int = 0xFFFF

    def decode(self, data: bytes, transaction_id: bytes) -> bytes:
        """The bytes."""
        if not self.low <= len(data) <= self.accept:
            raise MalformedMessage(f"{len(data)} bytes, not {self.low} to {self.accept}")
        return data

    def encode(self, value: bytes, transaction_id: bytes) -> bytes:
        """The bytes."""
        if not self.low <= len(value) <= self.send:
            raise LocalProtocolError(f"{len(value)} bytes, not {self.low} to {self.send}")
        return bytes(value)


@dataclass(frozen=True, slots=True)
class Mac:
    """A message authentication code of ``low`` to ``high`` bytes, in steps of four (RFC 8489 §14.6)."""

    low: int
    high: int

    def decode(self, data: bytes, transaction_id: bytes) -> bytes:
        """The code, perhaps truncated."""
        if not self.low <= len(data) <= self.high or len(data) % 4:
            raise MalformedMessage(f"{len(data)} bytes, not a multiple of 4 from {self.low} to {self.high}")
        return data

    def encode(self, value: bytes, transaction_id: bytes) -> bytes:
        """The code."""
        if not self.low <= len(value) <= self.high or len(value) % 4:
            raise LocalProtocolError(f"a code of {len(value)} bytes")
        return bytes(value)


@dataclass(frozen=True, slots=True)
class Utf8:
    """Text without NUL: at most ``send`` bytes and ``characters`` when written, ``accept`` when read.

    ``trailing_nul`` drops NULs at the end on reading: servers of RFC 3489's time end SOFTWARE with one.
    """

    send: int
    accept: int
    characters: int = 0xFFFF
    trailing_nul: bool = False

    def decode(self, data: bytes, transaction_id: bytes) -> str:
        """The text."""
        if len(data) > self.accept:
            raise MalformedMessage(f"{len(data)} bytes, not at most {self.accept}")
        if self.trailing_nul:
            data = data.rstrip(b"\0")
        if 0 in data:
            raise MalformedMessage("NUL in text")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise MalformedMessage("not UTF-8") from None

    def encode(self, value: str, transaction_id: bytes) -> bytes:
        """The text in UTF-8."""
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise LocalProtocolError("text with a lone surrogate") from None
        if len(data) > self.send or len(value) > self.characters:
            raise LocalProtocolError(f"text of {len(data)} bytes and {len(value)} characters is too long")
        if 0 in data:
            raise LocalProtocolError("NUL in text")
        return data


@dataclass(frozen=True, slots=True)
class UInt:
    """A number of 1, 2, 4 or 8 bytes; ``reserved`` bytes after it are zero on send, ignored on receive."""

    size: int
    reserved: int = 0

    def decode(self, data: bytes, transaction_id: bytes) -> int:
        """The number."""
        size = self.size
        if len(data) != size + self.reserved:
            raise MalformedMessage(f"{len(data)} bytes, not {size + self.reserved}")
        return int.from_bytes(data[:size], "big") if self.reserved else int.from_bytes(data, "big")

    def encode(self, value: int, transaction_id: bytes) -> bytes:
        """The number, big-endian."""
        try:
            return value.to_bytes(self.size, "big") + bytes(self.reserved)
        except OverflowError:
            raise LocalProtocolError(f"{value} does not fit {self.size} bytes") from None


@dataclass(frozen=True, slots=True)
class ResponsePort:
    """A port in two bytes and two of padding, which some senders count in the length and some do not."""

    def decode(self, data: bytes, transaction_id: bytes) -> int:
        """The port."""
        if len(data) not in (2, 4):
            raise MalformedMessage(f"{len(data)} bytes, not 2 or 4")
        return int(_U16.unpack_from(data)[0])

    def encode(self, value: int, transaction_id: bytes) -> bytes:
        """The port and two zeros."""
        return UInt(2, 2).encode(value, transaction_id)


@dataclass(frozen=True, slots=True)
class Flag:
    """An attribute that says everything by being there: its value is True."""

    def decode(self, data: bytes, transaction_id: bytes) -> bool:
        """True."""
        _expect(data, 0)
        return True

    def encode(self, value: bool, transaction_id: bytes) -> bytes:
        """Nothing."""
        if value is not True:
            raise LocalProtocolError("a flag is sent as True or left out")
        return b""


@dataclass(frozen=True, slots=True)
class TopBit:
    """One byte of which only the highest bit counts (EVEN-PORT's R, RFC 8656 §18.7)."""

    def decode(self, data: bytes, transaction_id: bytes) -> bool:
        """Whether the bit is set."""
        _expect(data, 1)
        return data[0] >= 0x80

    def encode(self, value: bool, transaction_id: bytes) -> bytes:
        """The bit and seven zeros."""
        return b"\x80" if value else b"\x00"


@lru_cache(maxsize=4096)
def _v4_text(ip: int) -> str:
    return f"{ip >> 24}.{ip >> 16 & 255}.{ip >> 8 & 255}.{ip & 255}"


@lru_cache(maxsize=4096)
def _v6_text(packed: bytes) -> str:
    return Address(str(IPv6Address(packed)), 0).host


def _pack(address: Address) -> tuple[int, int, bytes]:
    """Family, port and packed IP of ``address``; a zone has no place on the wire and is left out."""
    host, port = address
    if ":" not in host:
        return IPV4, port, bytes(map(int, host.split(".")))
    return IPV6, port, address.ip.packed


@dataclass(frozen=True, slots=True)
class PlainAddress:
    """A transport address as it is (MAPPED-ADDRESS, RFC 8489 §14.1)."""

    def decode(self, data: bytes, transaction_id: bytes) -> Address:
        """The address."""
        if len(data) == 8 and data[1] == IPV4:
            _, port, ip = _V4.unpack(data)
            return Address._make((_v4_text(ip), port))
        if len(data) == 20 and data[1] == IPV6:
            _, port, packed = _V6.unpack(data)
            return Address._make((_v6_text(packed), port))
        raise MalformedMessage("not an address of a known family and its length")

    def encode(self, value: Address, transaction_id: bytes) -> bytes:
        """Family, port, address."""
        family, port, packed = _pack(value)
        return bytes((0, family)) + _U16.pack(port) + packed


@dataclass(frozen=True, slots=True)
class XorAddress:
    """A transport address XORed with cookie and transaction ID (XOR-MAPPED-ADDRESS, RFC 8489 §14.2)."""

    def decode(self, data: bytes, transaction_id: bytes) -> Address:
        """The address."""
        if len(data) == 8 and data[1] == IPV4:
            _, port, ip = _V4.unpack(data)
            return Address._make((_v4_text(ip ^ MAGIC_COOKIE), port ^ _COOKIE_HIGH))
        if len(data) == 20 and data[1] == IPV6:
            _, port, packed = _V6.unpack(data)
            return Address._make((_v6_text(_mask_v6(packed, transaction_id)), port ^ _COOKIE_HIGH))
        raise MalformedMessage("not an address of a known family and its length")

    def encode(self, value: Address, transaction_id: bytes) -> bytes:
        """Family, masked port, masked address."""
        family, port, packed = _pack(value)
        if family == IPV4:
            masked = _U32.pack(int.from_bytes(packed, "big") ^ MAGIC_COOKIE)
        else:
            masked = _mask_v6(packed, transaction_id)
        return bytes((0, family)) + _U16.pack(port ^ _COOKIE_HIGH) + masked


def _mask_v6(packed: bytes, transaction_id: bytes) -> bytes:
    mask = _COOKIE_96 | int.from_bytes(transaction_id, "big")
    return (int.from_bytes(packed, "big") ^ mask).to_bytes(16, "big")
