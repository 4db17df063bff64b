"""What relay cores tell whoever drives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from natwalk.relay.handshake import RefusalCode


class GoneReason(IntEnum):
    """Why nothing reaches a peer."""

    NOT_HERE = 0
    """It is not connected to this relay."""
    DISCONNECTED = 1
    """It was and is not any more."""


@dataclass(frozen=True, slots=True)
class ConnectWanted:
    """Open a connection, then call ``connection_made`` or ``connect_failed``."""


@dataclass(frozen=True, slots=True)
class DisconnectWanted:
    """Close the connection there is, now; ``connection_lost`` need not be called for it."""

    reason: str


@dataclass(frozen=True, slots=True)
class RelayReady:
    """Both sides have proved their keys: packets may be sent."""

    server_key: bytes


@dataclass(frozen=True, slots=True)
class RelayLost:
    """There is no connection; the next attempt is in ``retry_in`` seconds. ``code`` is the server's."""

    reason: str
    retry_in: float
    code: RefusalCode | None = None


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A packet of the holder of ``peer``, as the relay says; nothing but end-to-end encryption proves it."""

    peer: bytes
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PeerGone:
    """What was or will be sent to ``peer`` does not reach it."""

    peer: bytes
    reason: GoneReason


@dataclass(frozen=True, slots=True)
class Standing:
    """``active`` is False while another, newer connection of our key gets our packets."""

    active: bool


@dataclass(frozen=True, slots=True)
class RelayRestarting:
    """The server is about to end; we come back ``reconnect_in`` seconds after it is gone."""

    reconnect_in: float
    try_for: float


RelayClientEvent = (
    ConnectWanted
    | DisconnectWanted
    | RelayReady
    | RelayLost
    | PacketReceived
    | PeerGone
    | Standing
    | RelayRestarting
)


@dataclass(frozen=True, slots=True)
class CloseWanted:
    """The server closes connection ``number``, once what is queued for it is sent."""

    number: int
    reason: str
