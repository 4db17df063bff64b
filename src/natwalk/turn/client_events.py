"""What a TURN client tells its application."""

from __future__ import annotations

from dataclasses import dataclass

from natwalk.core import Address, IPAddress


@dataclass(frozen=True, slots=True)
class Allocated:
    """The relayed address is ours; ``mapped`` is how the server sees us; ``lifetime`` is in seconds."""

    relayed: Address
    mapped: Address | None
    lifetime: int


@dataclass(frozen=True, slots=True)
class AllocationFailed:
    """No allocation came about; ``code`` is the server's error code, None when it gave none."""

    code: int | None
    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class AllocationLost:
    """The allocation that was there is gone: it ran out or the server no longer knows it."""

    reason: str


@dataclass(frozen=True, slots=True)
class PermissionDenied:
    """The server will not relay to ``peer``, or did not answer (``code`` None)."""

    peer: IPAddress
    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class PeerData:
    """A datagram that ``peer`` sent to the relayed address."""

    data: bytes
    peer: Address


@dataclass(frozen=True, slots=True)
class Closed:
    """The allocation was given back, or nobody answered that it was; the client is done."""


TurnClientEvent = Allocated | AllocationFailed | AllocationLost | PermissionDenied | PeerData | Closed
