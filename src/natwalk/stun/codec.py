"""Bytes to :class:`Message` and back (RFC 8489 §5, §14).

``decode`` reads values at once, so that a message that exists is a message that is well-formed. It says
nothing about whether a message makes sense: that is for its user.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from struct import Struct
from typing import Final
from zlib import crc32

from natwalk.core import LocalProtocolError, MalformedMessage
from natwalk.stun.attributes import (
    ATTRIBUTES,
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    Attribute,
    unknown,
)
from natwalk.stun.codecs import MAGIC_COOKIE
from natwalk.stun.message import Message, MessageClass, Method

HEADER_LENGTH: Final = 20
FINGERPRINT_XOR: Final = 0x5354554E

_HEADER: Final = Struct("!HHI12s")
_TLV: Final = Struct("!HH")
_START: Final = Struct("!HHI")
_PADS: Final = (b"", b"\0", b"\0\0", b"\0\0\0")
_DECODERS: Final = {spec.type: (spec, spec.codec.decode) for spec in ATTRIBUTES.values()}
_INTEGRITY: Final = MESSAGE_INTEGRITY.type
_SHA256: Final = MESSAGE_INTEGRITY_SHA256.type
_FINGERPRINT: Final = FINGERPRINT.type


def message_type(method: int, message_class: int) -> int:
    """The 14 bits of a message's type: the class bits sit among the method's (RFC 8489 §5)."""
    bits = (method & 0xF80) << 2 | (method & 0x70) << 1 | method & 0xF
    return bits | (message_class & 2) << 7 | (message_class & 1) << 4


def split_type(bits: int) -> tuple[Method | int, MessageClass]:
    """Method and class of a 14-bit message type; the inverse of :func:`message_type`."""
    number = bits >> 2 & 0xF80 | bits >> 1 & 0x70 | bits & 0xF
    method = _METHODS.get(number, number)
    return method, MessageClass(bits >> 7 & 2 | bits >> 4 & 1)


_METHODS: Final = {int(method): method for method in Method}
_TYPES: Final = {message_type(m, c): (m, c) for m in Method for c in MessageClass}


def is_stun(data: bytes | bytearray | memoryview) -> bool:
    """Whether ``data`` looks like one STUN message among other protocols (RFC 8489 §5, RFC 7983 §7).

    True when the first two bits are zero, the magic cookie is in place, and the length is the datagram's.
    """
    if len(data) < HEADER_LENGTH or (data[0] > 3 and data[0] & 0xC0):
        return False
    _, length, cookie = _START.unpack_from(data)
    return cookie == MAGIC_COOKIE and length + HEADER_LENGTH == len(data) and not length & 3


def decode(data: bytes | bytearray | memoryview) -> Message:
    """Read the one message that ``data`` is; raise :class:`MalformedMessage` when it is none.

    Attributes keep their order and unknown ones their bytes. Those that follow an integrity attribute are
    left out, except another integrity attribute where RFC 8489 §14.5 lets it follow, and FINGERPRINT. A
    FINGERPRINT that is wrong or not last is malformed. Integrity is not checked: see ``check_integrity``.
    """
    raw = data if type(data) is bytes else bytes(data)
    size = len(raw)
    if size < HEADER_LENGTH:
        raise MalformedMessage(f"{size} bytes are less than a STUN header")
    bits, length, cookie, transaction_id = _HEADER.unpack_from(raw)
    if bits > 0x3FFF or cookie != MAGIC_COOKIE:
        raise MalformedMessage("not STUN: wrong first bits or magic cookie")
    if length + HEADER_LENGTH != size or length & 3:
        raise MalformedMessage(f"length field {length} in a datagram of {size} bytes")
    attributes, offsets = _read_attributes(raw, size, transaction_id)
    method, message_class = _TYPES.get(bits) or split_type(bits)
    return Message(method, message_class, transaction_id, attributes, raw, offsets)


def _read_attributes(
    raw: bytes, size: int, transaction_id: bytes
) -> tuple[tuple[Attribute, ...], tuple[int, int]]:
    """The attributes that count, and where the two integrity attributes start."""
    attributes: list[Attribute] = []
    sha1_at = sha256_at = 0
    at = HEADER_LENGTH
    while at < size:
        # size and at are multiples of 4, so a TLV header is always whole
        kind, length = _TLV.unpack_from(raw, at)
        start = at + 4
        end = start + length
        following = end + (-length & 3)
        if following > size:
            raise MalformedMessage(f"attribute 0x{kind:04X} runs past the end")
        if kind == _FINGERPRINT:
            if following != size:
                raise MalformedMessage("FINGERPRINT is not the last attribute")
            attributes.append(_read_fingerprint(raw, at, length))
        elif not (sha1_at or sha256_at) or (kind == _SHA256 and not sha256_at):
            if (entry := _DECODERS.get(kind)) is None:
                attributes.append((unknown(kind), raw[start:end]))
            else:
                spec, read = entry
                try:
                    attributes.append((spec, read(raw[start:end], transaction_id)))
                except MalformedMessage as problem:
                    raise MalformedMessage(f"{spec.name}: {problem}") from None
                if kind == _INTEGRITY:
                    sha1_at = at
                elif kind == _SHA256:
                    sha256_at = at
        at = following
    return tuple(attributes), (sha1_at, sha256_at)


def _read_fingerprint(raw: bytes, at: int, length: int) -> Attribute:
    if length != 4:
        raise MalformedMessage(f"FINGERPRINT: {length} bytes, not 4")
    value = int.from_bytes(raw[at + 4 : at + 8], "big")
    if crc32(raw[:at]) ^ FINGERPRINT_XOR != value:
        raise MalformedMessage("FINGERPRINT: wrong checksum")
    return FINGERPRINT, value


def encode(
    message: Message,
    *,
    integrity_key: bytes | None = None,
    sha256: bool = False,
    fingerprint: bool = False,
) -> bytes:
    """The bytes of ``message``; padding is zero.

    With ``integrity_key`` a MESSAGE-INTEGRITY is added (MESSAGE-INTEGRITY-SHA256 when ``sha256``), and with
    ``fingerprint`` a FINGERPRINT. Raises :class:`LocalProtocolError` when a value is out of bounds, the
    message too long, or an attribute to be added already there.
    """
    body = b"".join(_written(message.attributes, message.transaction_id))
    bits = message_type(message.method, message.message_class)
    if integrity_key is not None:
        spec, size, digest = (
            (MESSAGE_INTEGRITY_SHA256, 32, "sha256") if sha256 else (MESSAGE_INTEGRITY, 20, "sha1")
        )
        _check_addable(message, spec in message or FINGERPRINT in message)
        header = _header(bits, len(body) + 4 + size, message.transaction_id)
        body += _TLV.pack(spec.type, size) + hmac.digest(integrity_key, header + body, digest)
    if fingerprint:
        _check_addable(message, FINGERPRINT in message)
        header = _header(bits, len(body) + 8, message.transaction_id)
        value = crc32(header + body) ^ FINGERPRINT_XOR
        return header + body + _TLV.pack(_FINGERPRINT, 4) + value.to_bytes(4, "big")
    return _header(bits, len(body), message.transaction_id) + body


def _check_addable(message: Message, present: bool) -> None:
    if present:
        raise LocalProtocolError("the message already has the integrity or fingerprint it should get")


def _header(bits: int, length: int, transaction_id: bytes) -> bytes:
    if length > 0xFFFF:
        raise LocalProtocolError(f"attributes of {length} bytes do not fit a message")
    return _HEADER.pack(bits, length, MAGIC_COOKIE, transaction_id)


def _written(attributes: Iterable[Attribute], transaction_id: bytes) -> Iterable[bytes]:
    """Each attribute's header, value and padding."""
    for spec, value in attributes:
        try:
            data = spec.codec.encode(value, transaction_id)
        except LocalProtocolError as problem:
            raise LocalProtocolError(f"{spec.name}: {problem}") from None
        length = len(data)
        if length > 0xFFFF:
            raise LocalProtocolError(f"{spec.name}: {length} bytes")
        yield _TLV.pack(spec.type, length)
        yield data
        yield _PADS[-length & 3]
