"""Allocations that move to another 5-tuple with a ticket (RFC 8016 §3).

A ticket is 192 random bits that the server looks up, so it tells nothing and cannot be forged, written in
printable characters because there are clients that take it for text and end it at a zero byte. An allocation
has one that is good, which every move replaces; the one before it is known for as long, so that a Refresh
repeated because its answer got lost is answered, and is good for nothing else.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Final

from natwalk.core import Outbox, Path, RandomBytes, Transport
from natwalk.stun import LIFETIME, MOBILITY_TICKET, Message
from natwalk.turn.admission import Granted
from natwalk.turn.allocation import Allocation
from natwalk.turn.replies import Failure, Raw
from natwalk.turn.server_events import ClientReleased, TurnServerEvent
from natwalk.turn.table import AllocationTable

_RANDOM: Final = 24


def new_ticket(random_bytes: RandomBytes) -> bytes:
    """A ticket nobody can guess: 32 printable characters."""
    return urlsafe_b64encode(random_bytes(_RANDOM))


class Mobility:
    """Finds and moves the allocation that the ticket of a Refresh belongs to."""

    def __init__(
        self, table: AllocationTable, events: Outbox[TurnServerEvent], random_bytes: RandomBytes
    ) -> None:
        self._table = table
        self._events = events
        self._random_bytes = random_bytes

    def holder(self, request: Message) -> Allocation | None:
        """The allocation that the ticket in ``request`` belongs to, or None."""
        ticket = request.get(MOBILITY_TICKET)
        return None if ticket is None else self._table.by_ticket.get(ticket)

    def claim(self, request: Message, path: Path, granted: Granted, now: float) -> Allocation | Failure | Raw:
        """The allocation that ``request`` refreshes with its ticket, moved to ``path`` if it was elsewhere.

        Raw repeats what the Refresh that moved it was answered (RFC 8016 §3.2.2).
        """
        allocation = self.holder(request)
        if allocation is None:
            return Failure(400, "no allocation has this ticket")
        if not granted.owns(allocation.granted):
            return Failure(441)
        if allocation.path == path and not allocation.away:
            again = allocation.transaction_id == request.transaction_id
            return Raw(allocation.response) if again else allocation
        if request.get(MOBILITY_TICKET) != allocation.ticket:
            return Failure(400, "the ticket was used")
        if path in self._table.by_client:
            return Failure(437)
        if request.get(LIFETIME) != 0:
            self._move(allocation, request, path, now)
        return allocation

    def _move(self, allocation: Allocation, request: Message, path: Path, now: float) -> None:
        old, open_still = allocation.path, not allocation.away
        self._table.move(allocation, path, now)
        self._table.set_ticket(allocation, new_ticket(self._random_bytes))
        allocation.transaction_id = request.transaction_id
        if open_still and old.transport is not Transport.UDP:
            self._events.put(ClientReleased(old))
