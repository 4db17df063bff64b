"""DNS messages as multicast DNS has them, for one kind of question: addresses of a name (RFC 6762 §18)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from natwalk.core import IPAddress, MalformedMessage

MAX_MESSAGE: Final = 9000
"""Bytes; no mDNS message is longer (RFC 6762 §17)."""

TYPE_A: Final = 1
TYPE_AAAA: Final = 28
TYPE_ANY: Final = 255
_CLASS_IN: Final = 1
_CLASS_ANY: Final = 255
_TOP_BIT: Final = 0x8000
"""In a question: unicast please; in a record: forget what you knew (RFC 6762 §18.12, §18.13)."""
_HEADER: Final = struct.Struct("!6H")
_FIXED: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_RESPONSE: Final = 0x8400  # QR and AA
_OPCODE_AND_RCODE: Final = 0x780F
_MAX_RECORDS: Final = 128
_MAX_POINTERS: Final = 16
_MAX_NAME: Final = 255
_LENGTHS: Final = {TYPE_A: 4, TYPE_AAAA: 16}


@dataclass(frozen=True, slots=True)
class Question:
    """The addresses of ``name``, lower-cased, are wanted, by unicast if ``unicast`` says so."""

    name: str
    type: int = TYPE_A
    unicast: bool = False


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """``name``, lower-cased, stands for ``ip`` for the next ``ttl`` seconds."""

    name: str
    ip: IPAddress
    ttl: int


@dataclass(frozen=True, slots=True)
class DnsMessage:
    """A query or a response, as far as it is about addresses: everything else in it is left out."""

    id: int = 0
    response: bool = False
    questions: tuple[Question, ...] = ()
    answers: tuple[AddressRecord, ...] = ()


def encode(message: DnsMessage, *, legacy: bool = False) -> bytes:
    """The message on the wire, names written in full.

    ``legacy`` writes records for a resolver that knows plain DNS only, without the cache-flush bit
    (RFC 6762 §6.7). Raises ValueError for a name that is none.
    """
    flags = _RESPONSE if message.response else 0
    parts = [_HEADER.pack(message.id, flags, len(message.questions), len(message.answers), 0, 0)]
    for question in message.questions:
        top = _TOP_BIT if question.unicast else 0
        parts += [_name(question.name), _FIXED.pack(question.type, _CLASS_IN | top)]
    for answer in message.answers:
        data = answer.ip.packed
        kind = TYPE_A if answer.ip.version == 4 else TYPE_AAAA
        rclass = _CLASS_IN if legacy else _CLASS_IN | _TOP_BIT
        parts += [_name(answer.name), _RECORD.pack(kind, rclass, answer.ttl, len(data)), data]
    return b"".join(parts)


def decode(data: bytes) -> DnsMessage:
    """Read a message; raise MalformedMessage on what is none, in time bounded by its length."""
    if not _HEADER.size <= len(data) <= MAX_MESSAGE:
        raise MalformedMessage(f"a DNS message of {len(data)} bytes")
    ident, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    records = answers + authorities + additionals
    if flags & _OPCODE_AND_RCODE:
        raise MalformedMessage("a DNS message with an opcode or an error code")
    if questions + records > _MAX_RECORDS:
        raise MalformedMessage(f"{questions + records} questions and records in one DNS message")
    try:
        return _read(data, ident, flags, questions, records)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise MalformedMessage("a DNS message that ends too soon, or a name that is none") from None


def _read(data: bytes, ident: int, flags: int, questions: int, records: int) -> DnsMessage:
    at = _HEADER.size
    asked: list[Question] = []
    for _ in range(questions):
        name, at = _read_name(data, at)
        kind, qclass = _FIXED.unpack_from(data, at)
        at += _FIXED.size
        if qclass & ~_TOP_BIT in (_CLASS_IN, _CLASS_ANY):
            asked.append(Question(name, kind, bool(qclass & _TOP_BIT)))
    found: list[AddressRecord] = []
    for _ in range(records):
        name, at = _read_name(data, at)
        kind, rclass, ttl, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        rdata = data[at : at + length]
        at += length
        if len(rdata) != length:
            raise MalformedMessage("a DNS record longer than its message")
        if rclass & ~_TOP_BIT == _CLASS_IN and _LENGTHS.get(kind) == length:
            ip = IPv4Address(rdata) if kind == TYPE_A else IPv6Address(rdata)
            found.append(AddressRecord(name, ip, ttl))
    return DnsMessage(ident, bool(flags & 0x8000), tuple(asked), tuple(found))


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    """The name at ``at`` and where the message goes on; pointers lead backwards only (RFC 1035 §4.1.4)."""
    labels: list[str] = []
    size = 0
    after: int | None = None
    pointers = 0
    while length := data[at]:
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[at + 1]
            pointers += 1
            if target >= at or pointers > _MAX_POINTERS:
                raise MalformedMessage("a DNS name that points in circles")
            after, at = after or at + 2, target
            continue
        label = data[at + 1 : at + 1 + length]
        size += length + 1
        if length > 63 or len(label) != length or size > _MAX_NAME:
            raise MalformedMessage("a DNS name that is too long")
        labels.append(label.decode("utf-8").lower())
        at += 1 + length
    return ".".join(labels), after or at + 1


def _name(text: str) -> bytes:
    labels = [label.encode("ascii") for label in text.split(".")]
    if not all(1 <= len(label) <= 63 for label in labels) or len(text) > _MAX_NAME - 2:
        raise ValueError(f"{text!r} is not a DNS name")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
