"""What STUN attributes carry when it is more than a number, a string or an address: frozen values.

They are checked on construction and raise :class:`ValueError`; the codecs turn that into the error of
the direction they work in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """The value of ERROR-CODE: a code from 300 to 699 and a reason phrase (RFC 8489 §14.8)."""

    code: int
    reason: str = ""

    def __post_init__(self) -> None:
        if not 300 <= self.code <= 699:
            raise ValueError(f"error code {self.code} is not between 300 and 699")


@dataclass(frozen=True, slots=True)
class AddressErrorCode:
    """The value of ADDRESS-ERROR-CODE: why one address family was not allocated (RFC 8656 §18.12)."""

    family: int
    code: int
    reason: str = ""

    def __post_init__(self) -> None:
        if not 300 <= self.code <= 699:
            raise ValueError(f"error code {self.code} is not between 300 and 699")
        if not 0 <= self.family <= 0xFF:
            raise ValueError(f"address family {self.family} is not one byte")


class Algorithm(IntEnum):
    """Password algorithms: how a long-term key is made of its parts (RFC 8489 §18.5)."""

    MD5 = 1
    SHA256 = 2


@dataclass(frozen=True, slots=True)
class PasswordAlgorithm:
    """The value of PASSWORD-ALGORITHM (RFC 8489 §14.12); ``number`` may be one we do not know."""

    number: int
    parameters: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.number <= 0xFFFF:
            raise ValueError(f"password algorithm {self.number} is not two bytes")


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """The value of CHANGE-REQUEST: answer from another address, another port, or both (RFC 5780 §7.2)."""

    change_ip: bool = False
    change_port: bool = False


@dataclass(frozen=True, slots=True)
class IcmpError:
    """The value of ICMP: what ICMP told the TURN server about a datagram it relayed (RFC 8656 §18.13)."""

    type: int
    code: int
    data: bytes = bytes(4)

    def __post_init__(self) -> None:
        if not (0 <= self.type < 1 << 7 and 0 <= self.code < 1 << 9):
            raise ValueError(f"ICMP type {self.type} or code {self.code} is out of range")
        if len(self.data) != 4:
            raise ValueError(f"ICMP error data has {len(self.data)} bytes, not 4")


@dataclass(frozen=True, slots=True)
class TransmitCounter:
    """The value of TRANSACTION_TRANSMIT_COUNTER: how often each was sent (RFC 7982 §3.1)."""

    requests: int
    responses: int

    def __post_init__(self) -> None:
        if not (0 <= self.requests <= 0xFF and 0 <= self.responses <= 0xFF):
            raise ValueError(f"transmit counts {self.requests}, {self.responses} are not one byte each")


@dataclass(frozen=True, slots=True)
class EcnCheck:
    """The value of ECN-CHECK: the ECN field a request arrived with, if ``valid`` (RFC 6679 §7.2.2)."""

    field: int
    valid: bool

    def __post_init__(self) -> None:
        if not 0 <= self.field <= 3:
            raise ValueError(f"ECN field {self.field} is not two bits")
