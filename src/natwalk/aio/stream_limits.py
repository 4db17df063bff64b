"""What clients over TCP, TLS and DTLS may cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from natwalk.core import Address
from natwalk.turn.buckets import source_of


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of connected clients; times are in seconds."""

    connections: int = 8192
    """TCP and TLS connections, and as many DTLS associations."""
    connections_per_source: int = 256
    """Those of one IPv4 address or IPv6 /64."""
    handshakes: int = 1024
    """DTLS associations whose handshake is not done, their source being known to receive."""
    first_message_timeout: float = 15.0
    """From the connection to its first whole message: a PROXY header and a TLS handshake included."""
    idle_timeout: float = 60.0
    """Without a message, when there is no allocation."""
    write_timeout: float = 10.0
    """While a client takes nothing of what is queued for it."""
    write_buffer: int = 64 << 10
    """Bytes queued for one client beyond which peers' datagrams are dropped."""
    write_buffer_most: int = 256 << 10
    """Bytes queued beyond which the connection is closed: only responses get there."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"limit {name} is {getattr(self, name)}, not positive")


class Sources:
    """How many connections each source has, so that none takes them all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: Counter[int] = Counter()

    def add(self, remote: Address) -> bool:
        """Count one connection from ``remote``; False, and not counted, when its source has enough."""
        source = source_of(remote).narrow
        if self._counts[source] >= self._limit:
            return False
        self._counts[source] += 1
        return True

    def remove(self, remote: Address) -> None:
        """One that was added is over."""
        source = source_of(remote).narrow
        self._counts[source] -= 1
        if not self._counts[source]:
            del self._counts[source]

    def __len__(self) -> int:
        return len(self._counts)
