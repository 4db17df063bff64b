"""Every attribute that STUN, TURN and ICE use, as one table (the IANA registry of RFC 8489 §18.3).

The codec, the tests and the documentation read :data:`ATTRIBUTES`; code names an attribute by its constant,
whose type parameter is the type of its value: ``message.get(USERNAME)`` is a ``str`` or None.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from natwalk.stun.codecs import (
    Flag,
    Mac,
    Opaque,
    PlainAddress,
    ResponsePort,
    TopBit,
    UInt,
    Utf8,
    ValueCodec,
    XorAddress,
)
from natwalk.stun.records import (
    AddressErrorCodeCodec,
    ChangeRequestCodec,
    EcnCheckCodec,
    ErrorCodeCodec,
    IcmpCodec,
    PasswordAlgorithmCodec,
    PasswordAlgorithmsCodec,
    TransmitCounterCodec,
    UnknownTypes,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AttributeSpec(Generic[T]):
    """One attribute: its type number, its name, how its value is coded and where that is written."""

    type: int
    name: str
    codec: ValueCodec[T]
    section: str

    @property
    def required(self) -> bool:
        """Whether a receiver that does not know it must not process the message (RFC 8489 §14)."""
        return self.type < 0x8000

    def __repr__(self) -> str:
        return self.name


_OPAQUE: Final = Opaque()
_TEXT: Final = Utf8(send=509, accept=763, characters=127)

MAPPED_ADDRESS: Final = AttributeSpec(0x0001, "MAPPED-ADDRESS", PlainAddress(), "RFC 8489 §14.1")
CHANGE_REQUEST: Final = AttributeSpec(0x0003, "CHANGE-REQUEST", ChangeRequestCodec(), "RFC 5780 §7.2")
USERNAME: Final = AttributeSpec(0x0006, "USERNAME", Utf8(send=508, accept=763), "RFC 8489 §14.3")
MESSAGE_INTEGRITY: Final = AttributeSpec(0x0008, "MESSAGE-INTEGRITY", Mac(20, 20), "RFC 8489 §14.5")
ERROR_CODE: Final = AttributeSpec(0x0009, "ERROR-CODE", ErrorCodeCodec(), "RFC 8489 §14.8")
UNKNOWN_ATTRIBUTES: Final = AttributeSpec(0x000A, "UNKNOWN-ATTRIBUTES", UnknownTypes(), "RFC 8489 §14.13")
CHANNEL_NUMBER: Final = AttributeSpec(0x000C, "CHANNEL-NUMBER", UInt(2, 2), "RFC 8656 §18.1")
LIFETIME: Final = AttributeSpec(0x000D, "LIFETIME", UInt(4), "RFC 8656 §18.2")
XOR_PEER_ADDRESS: Final = AttributeSpec(0x0012, "XOR-PEER-ADDRESS", XorAddress(), "RFC 8656 §18.3")
DATA: Final = AttributeSpec(0x0013, "DATA", _OPAQUE, "RFC 8656 §18.4")
REALM: Final = AttributeSpec(0x0014, "REALM", _TEXT, "RFC 8489 §14.9")
NONCE: Final = AttributeSpec(0x0015, "NONCE", Opaque(send=509, accept=763), "RFC 8489 §14.10")
XOR_RELAYED_ADDRESS: Final = AttributeSpec(0x0016, "XOR-RELAYED-ADDRESS", XorAddress(), "RFC 8656 §18.5")
REQUESTED_ADDRESS_FAMILY: Final = AttributeSpec(
    0x0017, "REQUESTED-ADDRESS-FAMILY", UInt(1, 3), "RFC 8656 §18.6"
)
EVEN_PORT: Final = AttributeSpec(0x0018, "EVEN-PORT", TopBit(), "RFC 8656 §18.7")
REQUESTED_TRANSPORT: Final = AttributeSpec(0x0019, "REQUESTED-TRANSPORT", UInt(1, 3), "RFC 8656 §18.8")
DONT_FRAGMENT: Final = AttributeSpec(0x001A, "DONT-FRAGMENT", Flag(), "RFC 8656 §18.9")
ACCESS_TOKEN: Final = AttributeSpec(0x001B, "ACCESS-TOKEN", _OPAQUE, "RFC 7635 §6.2")
MESSAGE_INTEGRITY_SHA256: Final = AttributeSpec(
    0x001C, "MESSAGE-INTEGRITY-SHA256", Mac(16, 32), "RFC 8489 §14.6"
)
PASSWORD_ALGORITHM: Final = AttributeSpec(
    0x001D, "PASSWORD-ALGORITHM", PasswordAlgorithmCodec(), "RFC 8489 §14.12"
)
USERHASH: Final = AttributeSpec(0x001E, "USERHASH", Opaque(32, 32, 32), "RFC 8489 §14.4")
XOR_MAPPED_ADDRESS: Final = AttributeSpec(0x0020, "XOR-MAPPED-ADDRESS", XorAddress(), "RFC 8489 §14.2")
RESERVATION_TOKEN: Final = AttributeSpec(0x0022, "RESERVATION-TOKEN", Opaque(8, 8, 8), "RFC 8656 §18.10")
PRIORITY: Final = AttributeSpec(0x0024, "PRIORITY", UInt(4), "RFC 8445 §16.1")
USE_CANDIDATE: Final = AttributeSpec(0x0025, "USE-CANDIDATE", Flag(), "RFC 8445 §16.1")
PADDING: Final = AttributeSpec(0x0026, "PADDING", _OPAQUE, "RFC 5780 §7.6")
RESPONSE_PORT: Final = AttributeSpec(0x0027, "RESPONSE-PORT", ResponsePort(), "RFC 5780 §7.5")
CONNECTION_ID: Final = AttributeSpec(0x002A, "CONNECTION-ID", UInt(4), "RFC 6062 §6.2.1")
ADDITIONAL_ADDRESS_FAMILY: Final = AttributeSpec(
    0x8000, "ADDITIONAL-ADDRESS-FAMILY", UInt(1, 3), "RFC 8656 §18.11"
)
ADDRESS_ERROR_CODE: Final = AttributeSpec(
    0x8001, "ADDRESS-ERROR-CODE", AddressErrorCodeCodec(), "RFC 8656 §18.12"
)
PASSWORD_ALGORITHMS: Final = AttributeSpec(
    0x8002, "PASSWORD-ALGORITHMS", PasswordAlgorithmsCodec(), "RFC 8489 §14.11"
)
ALTERNATE_DOMAIN: Final = AttributeSpec(
    0x8003, "ALTERNATE-DOMAIN", Utf8(send=255, accept=255), "RFC 8489 §14.16"
)
ICMP: Final = AttributeSpec(0x8004, "ICMP", IcmpCodec(), "RFC 8656 §18.13")
SOFTWARE: Final = AttributeSpec(
    0x8022,
    "SOFTWARE",
    Utf8(send=509, accept=763, characters=127, trailing_nul=True),
    "RFC 8489 §14.14",
)
ALTERNATE_SERVER: Final = AttributeSpec(0x8023, "ALTERNATE-SERVER", PlainAddress(), "RFC 8489 §14.15")
TRANSACTION_TRANSMIT_COUNTER: Final = AttributeSpec(
    0x8025, "TRANSACTION_TRANSMIT_COUNTER", TransmitCounterCodec(), "RFC 7982 §3.1"
)
CACHE_TIMEOUT: Final = AttributeSpec(0x8027, "CACHE-TIMEOUT", UInt(4), "RFC 5780 §9.1")
FINGERPRINT: Final = AttributeSpec(0x8028, "FINGERPRINT", UInt(4), "RFC 8489 §14.7")
ICE_CONTROLLED: Final = AttributeSpec(0x8029, "ICE-CONTROLLED", UInt(8), "RFC 8445 §16.1")
ICE_CONTROLLING: Final = AttributeSpec(0x802A, "ICE-CONTROLLING", UInt(8), "RFC 8445 §16.1")
RESPONSE_ORIGIN: Final = AttributeSpec(0x802B, "RESPONSE-ORIGIN", PlainAddress(), "RFC 5780 §7.3")
OTHER_ADDRESS: Final = AttributeSpec(0x802C, "OTHER-ADDRESS", PlainAddress(), "RFC 5780 §7.4")
ECN_CHECK: Final = AttributeSpec(0x802D, "ECN-CHECK", EcnCheckCodec(), "RFC 6679 §7.2.2")
THIRD_PARTY_AUTHORIZATION: Final = AttributeSpec(
    0x802E, "THIRD-PARTY-AUTHORIZATION", Utf8(send=508, accept=763), "RFC 7635 §6.1"
)
MOBILITY_TICKET: Final = AttributeSpec(0x8030, "MOBILITY-TICKET", _OPAQUE, "RFC 8016 §3.3")

ATTRIBUTES: Final = MappingProxyType(
    {spec.type: spec for spec in tuple(globals().values()) if isinstance(spec, AttributeSpec)}
)
"""Every attribute known here, by type number."""


@lru_cache(maxsize=1024)
def unknown(attribute_type: int) -> AttributeSpec[bytes]:
    """The spec of an attribute no table knows: its value is its bytes."""
    return AttributeSpec(attribute_type, f"0x{attribute_type:04X}", _OPAQUE, "")


Attribute = tuple[AttributeSpec[Any], Any]
"""An attribute in a message: its spec and its value."""
