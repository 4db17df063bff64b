"""What a TURN server keeps of one client: an allocation, its permissions and channels (RFC 8656 §3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from natwalk.core import Address, Path
from natwalk.turn.admission import Granted
from natwalk.turn.server_events import Counters, FlowAdded, FlowRemoved

LIFETIME_DEFAULT: Final = 600
LIFETIME_MAX: Final = 3600
PERMISSION_LIFETIME: Final = 300.0  # RFC 8656 §9
CHANNEL_LIFETIME: Final = 600.0  # RFC 8656 §12
CHANNEL_QUARANTINE: Final = 300.0  # RFC 8656 §12: before number or peer may be bound otherwise


def granted_lifetime(requested: int | None) -> int:
    """The lifetime in seconds a client gets for the one it asked for: 600 to 3600 (RFC 8656 §7.2)."""
    return max(LIFETIME_DEFAULT, min(requested or 0, LIFETIME_MAX))


@dataclass(slots=True, eq=False)
class Channel:
    """A channel number bound to a peer until ``expires``.

    ``until`` is when channel or permission ends, whichever is first: so long it forwards both ways.
    """

    number: int
    peer: Address
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
    """A relayed address and whom it may exchange datagrams with.

    ``path`` is the client's 5-tuple; ``transaction_id`` and ``response`` are those of the Allocate that
    made it, for when it is retransmitted; ``permissions`` maps a peer's IP address to its expiry.
    """

    path: Path
    granted: Granted
    relay: Address
    transaction_id: bytes
    response: bytes
    expires: float
    permissions: dict[str, float] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    by_peer: dict[Address, Channel] = field(default_factory=dict)
    packets_to_peers: int = 0
    bytes_to_peers: int = 0
    packets_from_peers: int = 0
    bytes_from_peers: int = 0

    @property
    def counters(self) -> Counters:
        """What was relayed so far."""
        return Counters(
            self.packets_to_peers, self.bytes_to_peers, self.packets_from_peers, self.bytes_from_peers
        )

    def permits(self, host: str, now: float) -> bool:
        """True while there is a permission for ``host``."""
        return self.permissions.get(host, 0.0) > now

    def conflicts(self, number: int, peer: Address, now: float) -> bool:
        """True when ``number`` or ``peer`` is bound otherwise, or was within the last five minutes."""
        holders = (self.channels.get(number), self.by_peer.get(peer))
        return any(
            channel is not None
            and (channel.number != number or channel.peer != peer)
            and channel.quarantined_until > now
            for channel in holders
        )

    def flow_added(self, channel: Channel) -> FlowAdded:
        """The event that publishes ``channel`` to data planes."""
        return FlowAdded(self.path.remote, self.path.local, channel.number, self.relay, channel.peer)

    def flow_removed(self, channel: Channel) -> FlowRemoved:
        """The event that withdraws ``channel`` from data planes."""
        return FlowRemoved(self.path.remote, self.path.local, channel.number, self.relay, channel.peer)
