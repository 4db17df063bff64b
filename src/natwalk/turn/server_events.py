"""What a TURN server tells its driver, its data plane and its operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from natwalk.core import Address, Path, Transport


@dataclass(frozen=True, slots=True)
class RelayWanted:
    """Bind a socket to ``address``, then call ``relay_opened`` or ``relay_failed`` with ``token``.

    With ``transport`` UDP it is a UDP socket; with TCP one that listens, whose connections are offered with
    ``peer_accepted`` (RFC 6062 §5.3). The two are different sockets even on one address.
    """

    address: Address
    token: int
    transport: Transport = Transport.UDP


@dataclass(frozen=True, slots=True)
class RelayReleased:
    """Close the socket bound to ``address``; connections accepted from it are told apart."""

    address: Address
    transport: Transport = Transport.UDP


@dataclass(frozen=True, slots=True)
class ConnectWanted:
    """Open a TCP connection from ``relay`` to ``peer`` (RFC 6062 §5.2).

    Then call ``peer_connected`` or ``peer_connect_failed`` with ``connection_id``.
    """

    connection_id: int
    relay: Address
    peer: Address


@dataclass(frozen=True, slots=True)
class ConnectionJoined:
    """Splice the peer connection ``connection_id`` and the client connection ``client`` (RFC 6062 §5.4).

    The response to the ConnectionBind is queued before this event, so it goes to the client first; from then
    on every byte either side sends belongs to the other. When either ends, flush, close both and call
    ``connection_closed``.
    """

    connection_id: int
    client: Path


@dataclass(frozen=True, slots=True)
class ConnectionReleased:
    """Close the peer connection ``connection_id``, and the client connection joined with it, if any."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class ClientReleased:
    """Close the client's connection ``path`` (a stream, or a DTLS association) when its queue is sent."""

    path: Path


@dataclass(frozen=True, slots=True)
class FlowAdded:
    """What ``client`` and ``listener`` exchange on ``channel`` goes between ``relay`` and ``peer``.

    Both are addresses as sockets have them. A data plane may forward both ways without asking, until
    FlowRemoved.
    """

    client: Address
    listener: Address
    channel: int
    relay: Address
    peer: Address
    transport: Transport = Transport.UDP


@dataclass(frozen=True, slots=True)
class FlowRemoved:
    """A flow that was added may no longer be forwarded."""

    client: Address
    listener: Address
    channel: int
    relay: Address
    peer: Address
    transport: Transport = Transport.UDP


@dataclass(frozen=True, slots=True)
class AllocationCreated:
    """A client got a relayed address; ``lifetime`` is in seconds, ``relays`` are all it got.

    ``relay`` and ``relays`` are what sockets are bound to, ``advertised`` what the client was told of each.
    """

    client: Address
    listener: Address
    username: str
    relay: Address
    lifetime: int
    transport: Transport = Transport.UDP
    relays: tuple[Address, ...] = ()
    relay_transport: Transport = Transport.UDP
    advertised: tuple[Address, ...] = ()


class EndReason(Enum):
    """Why an allocation ended."""

    EXPIRED = "expired"
    DELETED = "deleted"
    SHUTDOWN = "shutdown"
    DISCONNECTED = "disconnected"
    """Its user was revoked or cut off by the operator."""
    CLIENT_GONE = "client gone"
    """The client's connection closed, which ends the 5-tuple (RFC 8656 §3.1)."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Application datagrams and bytes relayed, to the peers and from them.

    ``peers`` counts the permissions that were installed: one for each peer host, and another when a host
    comes back after its permission expired.
    """

    packets_to_peers: int = 0
    bytes_to_peers: int = 0
    packets_from_peers: int = 0
    bytes_from_peers: int = 0
    peers: int = 0


@dataclass(frozen=True, slots=True)
class AllocationEnded:
    """A relayed address was given back or taken away; ``advertised`` is what the client knew it by."""

    client: Address
    listener: Address
    username: str
    relay: Address
    reason: EndReason
    counters: Counters
    transport: Transport = Transport.UDP
    relay_transport: Transport = Transport.UDP
    advertised: Address | None = None


@dataclass(frozen=True, slots=True)
class AllocationSummary:
    """An allocation as its operator sees it; ``expires_in`` is in seconds.

    ``relays`` are what sockets are bound to, ``advertised`` what the client was told of each.
    """

    client: Address
    listener: Address
    transport: Transport
    username: str
    relays: tuple[Address, ...]
    relay_transport: Transport
    expires_in: float
    permissions: int
    channels: int
    counters: Counters
    advertised: tuple[Address, ...] = ()


TurnServerEvent = (
    RelayWanted
    | RelayReleased
    | ConnectWanted
    | ConnectionJoined
    | ConnectionReleased
    | ClientReleased
    | FlowAdded
    | FlowRemoved
    | AllocationCreated
    | AllocationEnded
)
