"""Bytes to :class:`Message` and back (RFC 8489 §5, §14).

``decode`` reads values at once, so that a message that exists is a message that is well-formed. It says
nothing about whether a message makes sense: that is for its user. Its fast path is in ``layout``.
"""

from __future__ import annotations

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
from natwalk.stun.layout import FINGERPRINT_XOR, recall, remember
from natwalk.stun.mac import mac
from natwalk.stun.message import Message, message_type, split_type

HEADER_LENGTH: Final = 20

_HEADER: Final = Struct("!HHI12s")
_TLV: Final = Struct("!HH")
_START: Final = Struct("!HHI")
_PADS: Final = (b"", b"\0", b"\0\0", b"\0\0\0")
_INTEGRITY: Final = MESSAGE_INTEGRITY.type
_SHA256: Final = MESSAGE_INTEGRITY_SHA256.type
_FINGERPRINT: Final = FINGERPRINT.type


def is_stun(data: bytes | bytearray | memoryview) -> bool:
    """Whether ``data`` looks like one STUN message among other protocols (RFC 8489 §5).

    True when the first two bits are zero, the magic cookie is in place, and the length is the datagram's.
    """
    if len(data) < HEADER_LENGTH or data[0] & 0xC0:
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
    if (message := recall(raw)) is not None:
        return message
    message = _decode(raw)
    remember(message)
    return message


def decode_readable(data: bytes) -> tuple[Message, tuple[str, ...]]:
    """Read what :func:`decode` refuses for the values of attributes: the message without them, their names.

    For a server that answers 400 instead of nothing. Raises MalformedMessage when ``data`` is no message,
    or a damaged one.
    """
    malformed: list[str] = []
    return _decode(data, malformed), tuple(malformed)


def _decode(raw: bytes, malformed: list[str] | None = None) -> Message:
    """Read any message, attribute by attribute; with ``malformed``, leave out and name there what is."""
    size = len(raw)
    if size < HEADER_LENGTH:
        raise MalformedMessage(f"{size} bytes are less than a STUN header")
    bits, length, cookie, transaction_id = _HEADER.unpack_from(raw)
    if bits > 0x3FFF or cookie != MAGIC_COOKIE:
        raise MalformedMessage("not STUN: wrong first bits or magic cookie")
    if length + HEADER_LENGTH != size or length & 3:
        raise MalformedMessage(f"length field {length} in a datagram of {size} bytes")
    attributes: list[Attribute] = []
    sha1_at = sha256_at = 0
    end = HEADER_LENGTH
    while end < size:
        # size and end are multiples of 4, so the type and length are always whole
        at = end
        kind, length = _TLV.unpack_from(raw, at)
        value = raw[at + 4 : at + 4 + length]
        end = at + 4 + length + (-length & 3)
        if end > size:
            raise MalformedMessage(f"attribute 0x{kind:04X} runs past the end")
        if kind == _FINGERPRINT:
            _check_fingerprint(raw, at, value)
        elif kind == _SHA256 and not sha256_at:
            sha256_at = at
        elif sha1_at or sha256_at:
            # what follows an integrity attribute is not protected and does not count
            if end == size and _is_fingerprint(raw, at, value):
                raise MalformedMessage("FINGERPRINT: under another type, as damage leaves it")
            continue
        elif kind == _INTEGRITY:
            sha1_at = at
        try:
            attributes.append(_read(kind, value, transaction_id))
        except MalformedMessage:
            if malformed is None:
                raise
            malformed.append((ATTRIBUTES.get(kind) or unknown(kind)).name)
    method, message_class = split_type(bits)
    return Message(method, message_class, transaction_id, tuple(attributes), raw, (sha1_at, sha256_at))


def _read(kind: int, value: bytes, transaction_id: bytes) -> Attribute:
    spec = ATTRIBUTES.get(kind) or unknown(kind)
    try:
        return spec, spec.codec.decode(value, transaction_id)
    except MalformedMessage as problem:
        raise MalformedMessage(f"{spec.name}: {problem}") from None


def _check_fingerprint(raw: bytes, at: int, value: bytes) -> None:
    if at + 8 != len(raw) or len(value) != 4:
        raise MalformedMessage("FINGERPRINT: not 4 bytes at the end of the message")
    if not _is_fingerprint(raw, at, value):
        raise MalformedMessage("FINGERPRINT: wrong checksum")


def _is_fingerprint(raw: bytes, at: int, value: bytes) -> bool:
    return len(value) == 4 and crc32(raw[:at]) ^ FINGERPRINT_XOR == int.from_bytes(value)


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
    body = _written(message.attributes, message.transaction_id)
    bits = message_type(message.method, message.message_class)
    if integrity_key is not None:
        spec, size = (MESSAGE_INTEGRITY_SHA256, 32) if sha256 else (MESSAGE_INTEGRITY, 20)
        _check_addable(message, spec in message or FINGERPRINT in message)
        header = _header(bits, len(body) + 4 + size, message.transaction_id)
        body += _TLV.pack(spec.type, size) + mac(integrity_key, header + body, "sha256" if sha256 else "sha1")
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


def _written(attributes: Iterable[Attribute], transaction_id: bytes) -> bytes:
    """Header, value and padding of each attribute."""
    parts: list[bytes] = []
    for spec, value in attributes:
        try:
            data = spec.codec.encode(value, transaction_id)
        except LocalProtocolError as problem:
            raise LocalProtocolError(f"{spec.name}: {problem}") from None
        length = len(data)
        if length > 0xFFFF:
            raise LocalProtocolError(f"{spec.name}: {length} bytes")
        parts += (_TLV.pack(spec.type, length), data, _PADS[-length & 3])
    return b"".join(parts)
