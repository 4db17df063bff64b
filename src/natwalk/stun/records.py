"""Codecs of the attribute values that have fields: error codes, algorithms, ICMP errors and the like."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error
from typing import Final

from natwalk.core import LocalProtocolError, MalformedMessage
from natwalk.stun.codecs import Utf8
from natwalk.stun.values import (
    AddressErrorCode,
    ChangeRequest,
    EcnCheck,
    ErrorCode,
    IcmpError,
    PasswordAlgorithm,
    TransmitCounter,
)

REASON: Final = Utf8(send=509, accept=763, characters=127, trailing_nul=True)

_ERROR: Final = Struct("!BxBB")
_ALGORITHM: Final = Struct("!HH")
_ICMP: Final = Struct("!xxH4s")
_COUNTER: Final = Struct("!xxBB")
_U32: Final = Struct("!I")


def _code(class_bits: int, number: int) -> int:
    code_class = class_bits & 7  # the 21 bits before the class are reserved
    if not 3 <= code_class <= 6 or number > 99:
        raise MalformedMessage(f"error class {code_class}, number {number}")
    return code_class * 100 + number


@dataclass(frozen=True, slots=True)
class ErrorCodeCodec:
    """ERROR-CODE: class, number and reason phrase (RFC 8489 §14.8)."""

    def decode(self, data: bytes, transaction_id: bytes) -> ErrorCode:
        """The error."""
        if len(data) < 4:
            raise MalformedMessage(f"{len(data)} bytes, not at least 4")
        return ErrorCode(_code(data[2], data[3]), REASON.decode(data[4:], transaction_id))

    def encode(self, value: ErrorCode, transaction_id: bytes) -> bytes:
        """Class, number, reason."""
        return _ERROR.pack(0, *divmod(value.code, 100)) + REASON.encode(value.reason, transaction_id)


@dataclass(frozen=True, slots=True)
class AddressErrorCodeCodec:
    """ADDRESS-ERROR-CODE: a family and its error (RFC 8656 §18.12)."""

    def decode(self, data: bytes, transaction_id: bytes) -> AddressErrorCode:
        """The error."""
        if len(data) < 4:
            raise MalformedMessage(f"{len(data)} bytes, not at least 4")
        reason = REASON.decode(data[4:], transaction_id)
        return AddressErrorCode(data[0], _code(data[2], data[3]), reason)

    def encode(self, value: AddressErrorCode, transaction_id: bytes) -> bytes:
        """Family, class, number, reason."""
        code_class, number = divmod(value.code, 100)
        return _ERROR.pack(value.family, code_class, number) + REASON.encode(value.reason, transaction_id)


@dataclass(frozen=True, slots=True)
class UnknownTypes:
    """UNKNOWN-ATTRIBUTES: attribute types of two bytes each (RFC 8489 §14.13)."""

    def decode(self, data: bytes, transaction_id: bytes) -> tuple[int, ...]:
        """The types."""
        if len(data) % 2:
            raise MalformedMessage(f"{len(data)} bytes of two-byte types")
        return Struct(f"!{len(data) // 2}H").unpack(data)

    def encode(self, value: tuple[int, ...], transaction_id: bytes) -> bytes:
        """The types."""
        try:
            return Struct(f"!{len(value)}H").pack(*value)
        except error:
            raise LocalProtocolError(f"attribute types {value}") from None


def _read_algorithm(data: bytes, at: int) -> tuple[PasswordAlgorithm, int]:
    """The algorithm at offset ``at`` and the offset after it and its padding."""
    if len(data) < at + 4:
        raise MalformedMessage("truncated password algorithm")
    number, length = _ALGORITHM.unpack_from(data, at)
    start, end = at + 4, at + 4 + length
    if end > len(data):
        raise MalformedMessage("truncated password algorithm parameters")
    return PasswordAlgorithm(number, data[start:end]), end + -length % 4


def _write_algorithm(value: PasswordAlgorithm) -> bytes:
    length = len(value.parameters)
    if length > 0xFFFF:
        raise LocalProtocolError(f"{length} bytes of password algorithm parameters")
    return _ALGORITHM.pack(value.number, length) + value.parameters + bytes(-length % 4)


@dataclass(frozen=True, slots=True)
class PasswordAlgorithmCodec:
    """PASSWORD-ALGORITHM: one algorithm (RFC 8489 §14.12)."""

    def decode(self, data: bytes, transaction_id: bytes) -> PasswordAlgorithm:
        """The algorithm."""
        value, end = _read_algorithm(data, 0)
        if not end - 3 <= len(data) <= end:
            raise MalformedMessage("bytes after the password algorithm")
        return value

    def encode(self, value: PasswordAlgorithm, transaction_id: bytes) -> bytes:
        """Number, length, parameters."""
        return _write_algorithm(value)


@dataclass(frozen=True, slots=True)
class PasswordAlgorithmsCodec:
    """PASSWORD-ALGORITHMS: a server's algorithms, best first (RFC 8489 §14.11)."""

    def decode(self, data: bytes, transaction_id: bytes) -> tuple[PasswordAlgorithm, ...]:
        """The algorithms."""
        found, at = [], 0
        while at < len(data):
            value, at = _read_algorithm(data, at)
            found.append(value)
        return tuple(found)

    def encode(self, value: tuple[PasswordAlgorithm, ...], transaction_id: bytes) -> bytes:
        """The algorithms one after another."""
        return b"".join(map(_write_algorithm, value))


@dataclass(frozen=True, slots=True)
class ChangeRequestCodec:
    """CHANGE-REQUEST: two bits (RFC 5780 §7.2)."""

    def decode(self, data: bytes, transaction_id: bytes) -> ChangeRequest:
        """The flags."""
        if len(data) != 4:
            raise MalformedMessage(f"{len(data)} bytes, not 4")
        return ChangeRequest(bool(data[3] & 4), bool(data[3] & 2))

    def encode(self, value: ChangeRequest, transaction_id: bytes) -> bytes:
        """The flags in the last byte."""
        return _U32.pack(4 * value.change_ip + 2 * value.change_port)


@dataclass(frozen=True, slots=True)
class IcmpCodec:
    """ICMP: seven bits of type, nine of code, four bytes of data (RFC 8656 §18.13)."""

    def decode(self, data: bytes, transaction_id: bytes) -> IcmpError:
        """The ICMP error."""
        if len(data) != 8:
            raise MalformedMessage(f"{len(data)} bytes, not 8")
        bits, rest = _ICMP.unpack(data)
        return IcmpError(bits >> 9, bits & 0x1FF, rest)

    def encode(self, value: IcmpError, transaction_id: bytes) -> bytes:
        """Type, code, data."""
        return _ICMP.pack(value.type << 9 | value.code, value.data)


@dataclass(frozen=True, slots=True)
class TransmitCounterCodec:
    """TRANSACTION_TRANSMIT_COUNTER: two counts of a byte each (RFC 7982 §3.1)."""

    def decode(self, data: bytes, transaction_id: bytes) -> TransmitCounter:
        """The counts."""
        if len(data) != 4:
            raise MalformedMessage(f"{len(data)} bytes, not 4")
        return TransmitCounter(*_COUNTER.unpack(data))

    def encode(self, value: TransmitCounter, transaction_id: bytes) -> bytes:
        """The counts."""
        return _COUNTER.pack(value.requests, value.responses)


@dataclass(frozen=True, slots=True)
class EcnCheckCodec:
    """ECN-CHECK: two bits of ECN and one of validity at the end (RFC 6679 §7.2.2)."""

    def decode(self, data: bytes, transaction_id: bytes) -> EcnCheck:
        """The bits."""
        if len(data) != 4:
            raise MalformedMessage(f"{len(data)} bytes, not 4")
        return EcnCheck(data[3] >> 1 & 3, bool(data[3] & 1))

    def encode(self, value: EcnCheck, transaction_id: bytes) -> bytes:
        """The bits in the last byte."""
        return _U32.pack(value.field << 1 | value.valid)
