"""What a TURN server counts, for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from natwalk.core import Transport


@dataclass(frozen=True, slots=True)
class TurnStats:
    """Sizes of a server's tables and counters since it started, for metrics.

    ``errors`` counts responses by code, challenges included; ``rate_limited`` counts requests that were not
    even refused; ``throttled`` datagrams over a limit of bandwidth or bytes, and ``throttled_users`` whose
    they were; ``peers_refused`` attempts to reach one new peer too many, and ``scanners`` whose they were.
    Bytes and packets are relayed ones, both directions together; packets of TCP relays are not counted.
    """

    allocations: int
    flows: int
    permissions: int
    listeners: int
    dropped: int
    connections: int = 0
    relay_ports: int = 0
    by_transport: Mapping[Transport, int] = field(default_factory=lambda: MappingProxyType({}))
    errors: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    rate_limited: int = 0
    packets_relayed: int = 0
    bytes_relayed: int = 0
    throttled: int = 0
    throttled_users: int = 0
    peers_refused: int = 0
    scanners: int = 0
    draining: bool = False
