"""Changing a server while it runs: what may change, who is cut off by it, and letting it run empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from natwalk.core import Address, Outbox, Path, Transport
from natwalk.stun import ALTERNATE_SERVER
from natwalk.turn.admission import Granted
from natwalk.turn.allocator import Allocator
from natwalk.turn.config import TurnConfig
from natwalk.turn.replies import Failure
from natwalk.turn.server_events import ClientReleased, EndReason, TurnServerEvent
from natwalk.turn.table import AllocationTable

FIXED: Final = ("realm", "relay_addresses", "public_addresses", "port_range")
"""Fields of a TurnConfig that stay while a server runs: keys, sockets and the rule about own ports are made
of them."""


def check_changeable(old: TurnConfig, new: TurnConfig) -> None:
    """Return if a running server may go from ``old`` to ``new``; raise ValueError naming what may not."""
    wrong = [name for name in FIXED if getattr(old, name) != getattr(new, name)]
    if wrong:
        raise ValueError(f"needs a restart to change: {', '.join(wrong)}")


def cut_off(
    table: AllocationTable,
    allocator: Allocator,
    events: Outbox[TurnServerEvent],
    revoked: Callable[[Granted], bool],
) -> int:
    """End the allocations of everyone ``revoked``, and what waits for sockets; how many that were."""
    ended = 0
    for path, granted in allocator.waiting():
        if revoked(granted):
            ended += allocator.cancel(path)
    for allocation in list(table):
        if revoked(allocation.granted):
            away = allocation.away
            table.end(allocation, EndReason.DISCONNECTED)
            ended += 1
            if allocation.path.transport is not Transport.UDP and not away:
                events.put(ClientReleased(allocation.path))
    return ended


class Drain:
    """Whether new allocations are taken; where their clients are sent instead (RFC 8489 §10)."""

    def __init__(self) -> None:
        self.active = False
        self._alternate: Address | None = None

    def start(self, alternate: Address | None) -> None:
        """Take no more; a second call changes only where clients are sent."""
        self.active = True
        self._alternate = alternate

    def refusal(self, path: Path) -> Failure | None:
        """What a client that wants an allocation is told, or None when it may have it.

        ALTERNATE-SERVER has the address family the client came with (RFC 8489 §14.15).
        """
        if not self.active:
            return None
        alternate = self._alternate
        if alternate is None or alternate.version != path.remote.version:
            return Failure(508, "the server is about to stop")
        return Failure(300, attributes=((ALTERNATE_SERVER, alternate),))
