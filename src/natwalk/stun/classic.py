"""Binding requests of RFC 3489's time: no magic cookie, a transaction ID of 128 bits (RFC 3489 §11.1).

Only what a server needs: the question read, the answer written. RESPONSE-ADDRESS, by which such a request
could direct the answer at somebody else, counts as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from natwalk.core import Address, MalformedMessage
from natwalk.stun.attributes import CHANGE_REQUEST, ERROR_CODE, MAPPED_ADDRESS, UNKNOWN_ATTRIBUTES
from natwalk.stun.codecs import MAGIC_COOKIE
from natwalk.stun.values import ChangeRequest, ErrorCode

ID_LENGTH: Final = 16
REQUEST: Final = 0x0001
SUCCESS: Final = 0x0101
ERROR: Final = 0x0111
SOURCE_ADDRESS: Final = 0x0004
CHANGED_ADDRESS: Final = 0x0005
_UNDERSTOOD: Final = frozenset({0x0003, 0x0006, 0x0008})  # CHANGE-REQUEST, USERNAME, MESSAGE-INTEGRITY
_COOKIE: Final = MAGIC_COOKIE.to_bytes(4, "big")
_HEADER: Final = Struct("!HH16s")
_TLV: Final = Struct("!HH")


@dataclass(frozen=True, slots=True)
class ClassicRequest:
    """A Binding request: its ID, which changes it asks for (None: none), what in it must be refused."""

    transaction_id: bytes
    change: ChangeRequest | None
    unknown: tuple[int, ...]


def decode_classic(data: bytes) -> ClassicRequest | None:
    """The RFC 3489 Binding request that ``data`` is, or None when it is something else.

    Raises MalformedMessage when it begins like one and is none to its end.
    """
    if len(data) < _HEADER.size or data[:2] != b"\x00\x01" or data[4:8] == _COOKIE:
        return None
    _, length, transaction_id = _HEADER.unpack_from(data)
    if length + _HEADER.size != len(data) or length & 3:
        raise MalformedMessage(f"length field {length} in a datagram of {len(data)} bytes")
    change: ChangeRequest | None = None
    unknown: dict[int, None] = {}
    at = _HEADER.size
    while at < len(data):
        kind, size = _TLV.unpack_from(data, at)
        value = data[at + 4 : at + 4 + size]
        at += 4 + size + (-size & 3)
        if at > len(data):
            raise MalformedMessage(f"attribute 0x{kind:04X} runs past the end")
        if kind == CHANGE_REQUEST.type and change is None:
            change = CHANGE_REQUEST.codec.decode(value, b"")
        elif kind < 0x8000 and kind not in _UNDERSTOOD:
            unknown[kind] = None
    return ClassicRequest(transaction_id, change, tuple(unknown))


def classic_success(
    transaction_id: bytes, mapped: Address, source: Address | None = None, changed: Address | None = None
) -> bytes:
    """A Binding response: MAPPED-ADDRESS, and the other two where they are known (RFC 3489 §11.2)."""
    encode = MAPPED_ADDRESS.codec.encode
    addresses = ((MAPPED_ADDRESS.type, mapped), (SOURCE_ADDRESS, source), (CHANGED_ADDRESS, changed))
    return _message(
        SUCCESS, transaction_id, ((kind, encode(a, b"")) for kind, a in addresses if a is not None)
    )


def classic_error(transaction_id: bytes, code: int, unknown: tuple[int, ...] = ()) -> bytes:
    """A Binding error response without reason phrase."""
    attributes = [(ERROR_CODE.type, ERROR_CODE.codec.encode(ErrorCode(code), b""))]
    if unknown:
        # an odd list repeats one: RFC 3489 §11.2.10 knows no padding
        even = unknown + unknown[-1:] * (len(unknown) % 2)
        attributes.append((UNKNOWN_ATTRIBUTES.type, UNKNOWN_ATTRIBUTES.codec.encode(even, b"")))
    return _message(ERROR, transaction_id, attributes)


def _message(kind: int, transaction_id: bytes, attributes: Iterable[tuple[int, bytes]]) -> bytes:
    body = b"".join(_TLV.pack(number, len(value)) + value for number, value in attributes)
    return _HEADER.pack(kind, len(body), transaction_id) + body
