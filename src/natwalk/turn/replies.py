"""How a TURN server answers: the responses its request handlers return (RFC 8656 §19)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import Path
from natwalk.stun import UNKNOWN_ATTRIBUTES, Attribute, Message
from natwalk.turn.admission import Granted
from natwalk.turn.policy import Denial

MAX_UNKNOWN: Final = 128
"""Most types a 420 lists."""

REASONS: Final = {
    300: "Try Alternate",
    400: "Bad Request",
    403: "Forbidden",
    405: "Mobility Forbidden",
    420: "Unknown Attribute",
    437: "Allocation Mismatch",
    440: "Address Family not Supported",
    441: "Wrong Credentials",
    442: "Unsupported Transport Protocol",
    443: "Peer Address Family Mismatch",
    446: "Connection Already Exists",
    447: "Connection Timeout or Failure",
    486: "Allocation Quota Reached",
    508: "Insufficient Capacity",
}


@dataclass(frozen=True, slots=True)
class Success:
    """A success response with these attributes."""

    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An error response; ``detail`` is added to the reason phrase of ``code``."""

    code: int
    detail: str = ""
    attributes: tuple[Attribute, ...] = ()

    @property
    def reason(self) -> str:
        """The reason phrase sent, for people only (RFC 8489 §14.8)."""
        return f"{REASONS[self.code]}: {self.detail}" if self.detail else REASONS[self.code]


@dataclass(frozen=True, slots=True)
class Raw:
    """A response that was sent before and is sent again, byte for byte."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Later:
    """No response yet: it comes when a socket or a connection is there or cannot be had."""


Reply = Success | Failure | Raw | Later


@dataclass(frozen=True, slots=True)
class Deferred:
    """The answer to a ``request`` of some time ago."""

    request: Message
    path: Path
    granted: Granted
    reply: Success | Failure


def unknown_attributes(types: tuple[int, ...]) -> Failure:
    """The 420 that lists ``types``, at most 128 of them (RFC 8489 §6.3.1)."""
    return Failure(420, attributes=((UNKNOWN_ATTRIBUTES, types[:MAX_UNKNOWN]),))


def forbidden(denial: Denial) -> Failure:
    """The 403 for a peer that is refused; what the operator's own entries say stays with the operator."""
    detail = denial.rule if denial.reason in {"never", "default", "port"} else ""
    return Failure(403, detail)
