"""Connectivity checks as messages: building and reading them (RFC 8445 §7.1, §7.2, §7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import Address, ErrorResponse, IntegrityError, LocalProtocolError
from natwalk.stun import (
    FINGERPRINT,
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    MESSAGE_INTEGRITY_SHA256,
    PADDING,
    PRIORITY,
    UNKNOWN_ATTRIBUTES,
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Message,
    Method,
    check_integrity,
    encode,
    error,
    request,
    success,
)
from natwalk.stun.attributes import Attribute, unknown

NOMINATION: Final = unknown(0xC001)
"""Counts nominations, so that an older one that comes late is known (draft-thatcher-ice-renomination).

The number is the one in use; whoever does not know it leaves it alone."""

ROLE_CONFLICT: Final = 487
_BAD_REQUEST: Final = 400
_UNKNOWN_ATTRIBUTE: Final = 420
_MAX_UDP_PAYLOAD: Final = 65_507
_TLV_HEADER: Final = 4


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What an authenticated check from the peer says.

    ``controlling`` is the role the peer claims, None when it claims none; ``ufrag`` is the peer's own;
    ``nomination`` is the number of its nomination, None when it does not count them.
    """

    message: Message
    ufrag: str
    priority: int
    controlling: bool | None
    tie_breaker: int
    use_candidate: bool
    nomination: int | None = None


def build_check(
    transaction_id: bytes,
    *,
    username: str,
    key: bytes,
    priority: int,
    controlling: bool,
    tie_breaker: int,
    use_candidate: bool = False,
    nomination: int = 0,
    size: int = 0,
) -> bytes:
    """A Binding request that checks a pair (RFC 8445 §7.2.2, §7.2.4), with integrity and fingerprint.

    ``nomination`` is the number of the nomination that ``use_candidate`` makes, not told when 0;
    ``priority`` is what a peer-reflexive candidate learned from it would have (§7.1.1). With ``size``
    the message is padded to that many bytes, rounded up to a multiple of 4 (PADDING, RFC 5780 §7.6);
    LocalProtocolError when it is larger without padding or no datagram is that large.
    """
    role = ICE_CONTROLLING if controlling else ICE_CONTROLLED
    attributes: list[Attribute] = [(USERNAME, username), (PRIORITY, priority), (role, tie_breaker)]
    if use_candidate:
        attributes.append((USE_CANDIDATE, True))
        if nomination:
            attributes.append((NOMINATION, nomination.to_bytes(4)))

    def encoded(*more: Attribute) -> bytes:
        message = request(Method.BINDING, transaction_id, *attributes, *more)
        return encode(message, integrity_key=key, fingerprint=True)

    data = encoded()
    if not size:
        return data
    missing = size + -size % 4 - len(data) - _TLV_HEADER
    if missing < 0 or size > _MAX_UDP_PAYLOAD:
        raise LocalProtocolError(f"a probe of {size} bytes: between {len(data) + _TLV_HEADER} and 65507 are")
    return encoded((PADDING, bytes(missing)))


def read_check(message: Message, *, ufrag: str, key: bytes) -> CheckRequest:
    """The check in a Binding request to us.

    Raises :class:`IntegrityError`, in a fixed phrase, unless it has a fingerprint, our ``ufrag`` and an
    integrity that verifies with our password's ``key``. Raises :class:`ErrorResponse` with the code
    to answer when it is authentic but not a check (RFC 8489 §6.3.1).
    """
    if FINGERPRINT not in message:
        raise IntegrityError("a check without FINGERPRINT")
    ours, separator, theirs = (message.get(USERNAME) or "").partition(":")
    if not separator or ours != ufrag:
        raise IntegrityError("a check for another ufrag")
    try:
        check_integrity(message, key)
    except IntegrityError:
        raise IntegrityError("a check whose integrity does not verify") from None
    if message.unknown_required:
        raise ErrorResponse(_UNKNOWN_ATTRIBUTE, "Unknown Attribute")
    priority = message.get(PRIORITY)
    if priority is None or not 1 <= priority < 2**31:
        raise ErrorResponse(_BAD_REQUEST, "Bad Request")
    controlling, controlled = message.get(ICE_CONTROLLING), message.get(ICE_CONTROLLED)
    if controlling is not None and controlled is not None:
        raise ErrorResponse(_BAD_REQUEST, "Bad Request")
    claim = None if controlling is None and controlled is None else controlling is not None
    return CheckRequest(
        message=message,
        ufrag=theirs,
        priority=priority,
        controlling=claim,
        tie_breaker=(controlled if controlling is None else controlling) or 0,
        use_candidate=USE_CANDIDATE in message,
        nomination=_nomination(message),
    )


def _nomination(message: Message) -> int | None:
    value = message.get(NOMINATION)
    return int.from_bytes(value) if value is not None and len(value) == 4 else None


def build_success(to: Message, source: Address, key: bytes) -> bytes:
    """The answer to a check from ``source`` (RFC 8445 §7.3), with the integrity the request used."""
    response = success(to, (XOR_MAPPED_ADDRESS, source))
    return encode(response, integrity_key=key, sha256=_sha256(to), fingerprint=True)


def build_error(to: Message, code: int, reason: str, key: bytes) -> bytes:
    """An error answer to an authentic check, with the integrity the request used (RFC 8489 §6.3.1)."""
    more: tuple[Attribute, ...] = ()
    if code == _UNKNOWN_ATTRIBUTE:
        more = ((UNKNOWN_ATTRIBUTES, to.unknown_required[:128]),)
    return encode(error(to, code, reason, *more), integrity_key=key, sha256=_sha256(to), fingerprint=True)


def _sha256(message: Message) -> bool:
    return MESSAGE_INTEGRITY_SHA256 in message
