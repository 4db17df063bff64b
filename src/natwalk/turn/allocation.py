"""What a TURN server keeps of one client: an allocation, its permissions and channels (RFC 8656 §3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from natwalk.core import Address, Path, Transport
from natwalk.turn.admission import Granted
from natwalk.turn.server_events import AllocationSummary, Counters, FlowAdded, FlowRemoved

if TYPE_CHECKING:
    from natwalk.turn.connections import PeerConnection

LIFETIME_DEFAULT: Final = 600
LIFETIME_MAX: Final = 3600
PERMISSION_LIFETIME: Final = 300.0  # RFC 8656 §9
CHANNEL_LIFETIME: Final = 600.0  # RFC 8656 §12
CHANNEL_QUARANTINE: Final = 300.0  # RFC 8656 §12: before number or peer may be bound otherwise


def granted_lifetime(requested: int | None) -> int:
    """The lifetime in seconds a client gets for the one it asked for: 600 to 3600 (RFC 8656 §7.2)."""
    return max(LIFETIME_DEFAULT, min(requested or 0, LIFETIME_MAX))


@dataclass(slots=True, eq=False)
class Relay:
    """A relayed transport address until ``expires``; the two of a dual allocation end apart.

    A socket is bound to ``address``; ``advertised`` is what clients and peers know it by.
    """

    address: Address
    expires: float
    allocation: Allocation = field(repr=False)
    advertised: Address


@dataclass(slots=True, eq=False)
class Channel:
    """A channel number bound to a peer until ``expires``.

    ``peer`` is the address the client named, ``path`` goes from socket to socket: the two differ in an
    address of our own that is known by another name outside.
    ``until`` is when channel or permission ends, whichever is first: so long it forwards both ways.
    """

    number: int
    peer: Address
    relay: Relay
    path: Path
    expires: float = 0.0
    until: float = 0.0
    flowing: bool = False

    @property
    def quarantined_until(self) -> float:
        """When number and peer are free for other bindings."""
        return self.expires + CHANNEL_QUARANTINE


@dataclass(slots=True, eq=False)
class Allocation:
    """Relayed addresses and whom they may exchange datagrams with.

    ``path`` is the client's 5-tuple; ``relay`` is the address the allocation is known by in events, and
    ``relays`` are those it has, one an address family. ``transaction_id`` and ``response`` are those of the
    request that made it or moved it here, for when that is retransmitted. ``permissions`` maps a peer's IP
    address to its expiry, ``by_host`` the same to the channels bound there; ``by_peer`` has those by the
    address that datagrams come from. ``ticket`` is the mobility
    ticket, if there is one, ``old_ticket`` the one before it (RFC 8016); a client that is ``away`` has
    closed its connection and may come back with the ticket. ``connections`` are the peer connections of a
    TCP allocation by peer (RFC 6062).
    """

    path: Path
    granted: Granted
    relay: Address
    transaction_id: bytes
    transport: Transport = Transport.UDP
    response: bytes = b""
    relays: tuple[Relay, ...] = ()
    permissions: dict[str, float] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    by_peer: dict[Address, Channel] = field(default_factory=dict)
    by_host: dict[str, list[Channel]] = field(default_factory=dict)
    connections: dict[Address, PeerConnection] = field(default_factory=dict)
    ticket: bytes = b""
    old_ticket: bytes = b""
    away: bool = False
    padded: bool = field(init=False)
    """Whether ChannelData to the client are padded: over a stream (RFC 8656 §12.5)."""
    packets_to_peers: int = 0
    bytes_to_peers: int = 0
    packets_from_peers: int = 0
    bytes_from_peers: int = 0
    peers: int = 0

    def __post_init__(self) -> None:
        self.padded = self.path.transport.is_stream

    @property
    def counters(self) -> Counters:
        """What was relayed so far."""
        return Counters(
            self.packets_to_peers,
            self.bytes_to_peers,
            self.packets_from_peers,
            self.bytes_from_peers,
            self.peers,
        )

    def summary(self, now: float) -> AllocationSummary:
        """What the operator is told of it at ``now``."""
        return AllocationSummary(
            self.path.remote,
            self.path.local,
            self.path.transport,
            self.granted.username,
            tuple(relay.address for relay in self.relays),
            self.transport,
            max(0.0, self.expires - now),
            len(self.permissions),
            len(self.channels),
            self.counters,
            tuple(relay.advertised for relay in self.relays),
        )

    @property
    def expires(self) -> float:
        """When the last of its relayed addresses expires."""
        return max(relay.expires for relay in self.relays)

    def relay_of(self, version: int) -> Relay | None:
        """The relayed address of IP ``version`` 4 or 6, or None."""
        for relay in self.relays:
            if relay.address.version == version:
                return relay
        return None

    def permits(self, host: str, now: float) -> bool:
        """True while there is a permission for ``host``."""
        return self.permissions.get(host, 0.0) > now

    def conflicts(self, number: int, peer: Address, now: float) -> bool:
        """True when ``number`` or ``peer`` is bound otherwise, or was within the last five minutes.

        ``peer`` is the address that datagrams come from.
        """
        holders = (self.channels.get(number), self.by_peer.get(peer))
        return any(
            channel is not None
            and (channel.number != number or channel.path.remote != peer)
            and channel.quarantined_until > now
            for channel in holders
        )

    def flow_added(self, channel: Channel) -> FlowAdded:
        """The event that publishes ``channel`` to data planes."""
        return FlowAdded(
            self.path.remote,
            self.path.local,
            channel.number,
            channel.path.local,
            channel.path.remote,
            self.path.transport,
        )

    def flow_removed(self, channel: Channel) -> FlowRemoved:
        """The event that withdraws ``channel`` from data planes."""
        return FlowRemoved(
            self.path.remote,
            self.path.local,
            channel.number,
            channel.path.local,
            channel.path.remote,
            self.path.transport,
        )
