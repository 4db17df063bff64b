"""STUN and TURN messages made of decisions, so that the fuzzer gets past the first checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fuzz.reader import Reader
from natwalk.core import Address
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    ALTERNATE_SERVER,
    ATTRIBUTES,
    CHANGE_REQUEST,
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DATA,
    DONT_FRAGMENT,
    ERROR_CODE,
    EVEN_PORT,
    ICMP,
    LIFETIME,
    MOBILITY_TICKET,
    NONCE,
    OTHER_ADDRESS,
    PADDING,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Attribute,
    ChangeRequest,
    ErrorCode,
    IcmpError,
    Method,
)
from natwalk.stun.attributes import unknown

PEERS: Final = tuple(
    Address(host, port)
    for host, port in (
        ("192.0.2.77", 7000),
        ("192.0.2.78", 7001),
        ("203.0.113.50", 3478),
        ("203.0.113.50", 49152),
        ("2001:db8::77", 7000),
        ("127.0.0.1", 80),
        ("::ffff:127.0.0.1", 80),
        ("64:ff9b::7f00:1", 80),
        ("0.0.0.0", 80),
        ("169.254.169.254", 80),
        ("198.51.100.9", 50000),
    )
)
METHODS: Final = (*Method, 0x00D, 0xFFF)

_MAKERS: Final[tuple[tuple[Any, Callable[[Reader], Any]], ...]] = (
    (XOR_PEER_ADDRESS, lambda r: r.choice(PEERS)),
    (XOR_MAPPED_ADDRESS, lambda r: r.choice(PEERS)),
    (XOR_RELAYED_ADDRESS, lambda r: r.choice(PEERS)),
    (ALTERNATE_SERVER, lambda r: r.choice(PEERS)),
    (OTHER_ADDRESS, lambda r: r.choice(PEERS)),
    (RESPONSE_ORIGIN, lambda r: r.choice(PEERS)),
    (DATA, lambda r: r.blob()),
    (CHANNEL_NUMBER, lambda r: r.number(2)),
    (LIFETIME, lambda r: r.number(4)),
    (LIFETIME, lambda r: r.number()),
    (REQUESTED_TRANSPORT, lambda r: r.choice((17, 6, 0, 255))),
    (REQUESTED_ADDRESS_FAMILY, lambda r: r.choice((1, 2, 3))),
    (ADDITIONAL_ADDRESS_FAMILY, lambda r: r.choice((1, 2, 3))),
    (EVEN_PORT, lambda r: bool(r.number() & 1)),
    (DONT_FRAGMENT, lambda r: True),
    (RESERVATION_TOKEN, lambda r: r.bytes(8).ljust(8, b"\0")),
    (MOBILITY_TICKET, lambda r: r.blob()),
    (CONNECTION_ID, lambda r: r.number()),
    (ERROR_CODE, lambda r: ErrorCode(r.choice((300, 400, 401, 403, 405, 420, 437, 438, 441, 486, 508)))),
    (NONCE, lambda r: r.bytes(r.number() % 40)),
    (REALM, lambda r: r.choice(("natwalk", "other", ""))),
    (USERNAME, lambda r: r.choice(("alice", "bob", "mallory", ""))),
    (ICMP, lambda r: IcmpError(r.number() & 127, r.number(), bytes(4))),
    (CHANGE_REQUEST, lambda r: ChangeRequest(*(bool(r.number() & bit) for bit in (1, 2)))),
    (PADDING, lambda r: bytes(r.number(2) % 2000)),
    (RESPONSE_PORT, lambda r: r.number(2)),
    # any type with any bytes: values no codec would write
    (None, lambda r: None),
)


def attribute(reader: Reader) -> Attribute:
    """One attribute: a sensible one, or any type with any bytes."""
    spec, make = reader.choice(_MAKERS)
    if spec is not None:
        return spec, make(reader)
    known = tuple(ATTRIBUTES)
    kind = reader.choice(known) if reader.number() & 1 else reader.number(2)
    return unknown(kind), reader.blob()


def attributes(reader: Reader, most: int = 6) -> tuple[Attribute, ...]:
    """Up to ``most`` attributes."""
    return tuple(attribute(reader) for _ in range(reader.number() % (most + 1)))
