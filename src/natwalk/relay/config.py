"""What a relay server and its clients may be told; times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from natwalk.relay.frames import HEADER_LENGTH, KEY_LENGTH, PACKET_LIMIT

LARGEST_FRAME = HEADER_LENGTH + KEY_LENGTH + PACKET_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayServerConfig:
    """Bounds of one server."""

    connections: int = 16_384
    connections_per_source: int = 256
    connections_per_key: int = 4
    """Of one key at the same time; the newest gets its packets, the oldest has to go."""
    handshake_timeout: float = 10.0
    idle_timeout: float = 75.0
    """Silence after which a client is gone; clients send something three times in it."""
    write_timeout: float = 10.0
    """How long a client may read nothing."""
    rate: float = 4 << 20
    """Bytes a second that one client may send; it is read no faster."""
    burst: float = 1 << 20
    """And so many at once; never less than one frame."""
    notices_per_second: float = 1.0
    notices_at_once: int = 3
    remembered_peers: int = 64
    """Peers that hear when a client is gone: the latest with whom it exchanged packets."""
    restart_spread: float = 20.0
    """Over how long the clients of a server that restarts are told to come back."""
    allow: frozenset[bytes] = field(default_factory=frozenset)
    """The keys that may use it; empty for every key."""

    def __post_init__(self) -> None:
        counts = (self.connections, self.connections_per_source, self.connections_per_key)
        times = (self.handshake_timeout, self.idle_timeout, self.write_timeout, self.restart_spread)
        if min(*counts, self.remembered_peers, self.notices_at_once) < 1 or min(*times) <= 0:
            raise ValueError("a relay's bounds are at least 1 and its times above 0")
        if self.rate <= 0 or self.burst <= 0 or self.notices_per_second <= 0:
            raise ValueError("a relay's rates are above 0")

    @property
    def burst_bytes(self) -> float:
        """The burst, at least the largest frame."""
        return max(self.burst, LARGEST_FRAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayClientConfig:
    """How a client holds its connection."""

    server_key: bytes | None = None
    """The key that the server must prove; None takes any, as TLS has said who it is."""
    keepalive: float = 20.0
    """Between pings, give or take a quarter; less when the server wants to hear more often."""
    pong_timeout: float = 5.0
    handshake_timeout: float = 10.0
    first_delay: float = 0.25
    """Before the first attempt to reconnect; it doubles from attempt to attempt."""
    longest_delay: float = 30.0
    longest_restart: float = 60.0
    """The most that a server may tell a client to wait."""
