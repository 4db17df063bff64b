"""The client side of request and response over UDP: send, send again, give up (RFC 8489 §6.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

from natwalk.core import LocalProtocolError, Outbox, Path, Transmit
from natwalk.stun.message import TRANSACTION_ID_LENGTH, Message

T = TypeVar("T")

RTO: Final = 0.5
"""Seconds before the first retransmission, when nothing is known of the path."""
RC: Final = 7
"""How often a request is sent in all."""
RM: Final = 16
"""How many RTOs after the last request the client still waits."""
_SHORTEST_RTO: Final = 0.001


def send_offsets(rto: float = RTO, rc: int = RC) -> tuple[float, ...]:
    """Offsets in seconds of the ``rc`` requests of a transaction (RFC 8489 §6.2.1)."""
    return tuple(rto * (2**n - 1) for n in range(rc))


def timeout_offset(rto: float = RTO, rc: int = RC, rm: int = RM) -> float:
    """Seconds after which a transaction has failed (RFC 8489 §6.2.1)."""
    return send_offsets(rto, rc)[-1] + rm * rto


@dataclass(slots=True, eq=False)
class Pending(Generic[T]):
    """A request waiting for its response; ``context`` is the caller's, times are in the clock of ``now``."""

    transaction_id: bytes
    data: bytes
    path: Path
    context: T
    started: float
    sent_at: float
    rto: float
    rc: int
    rm: int
    attempts: int = 1
    due: float = 0.0
    """When it is sent again or given up."""

    def rtt(self, now: float) -> float:
        """Seconds since the request was last sent.

        After a retransmission (``attempts > 1``) that is a lower bound, as the response may be to an
        earlier copy: an estimator of RTO should not use it then (RFC 8489 §6.2.1, Karn's rule).
        """
        return max(0.0, now - self.sent_at)

    def wait(self) -> float:
        """Seconds from the last send until the next one, or until the end when it was the last."""
        return self.rto * (self.rm if self.attempts >= self.rc else 2 ** (self.attempts - 1))


class Transactions(Generic[T]):
    """Requests in flight, at most ``limit``; each is sent on its schedule until matched and finished."""

    __slots__ = ("_heap", "_order", "_outbox", "_pending", "limit")

    def __init__(self, *, limit: int = 512) -> None:
        self.limit = limit
        self._pending: dict[bytes, Pending[T]] = {}
        self._heap: list[tuple[float, int, Pending[T]]] = []
        self._order = 0
        self._outbox: Outbox[Pending[T]] = Outbox(2 * limit)

    def start(
        self,
        transaction_id: bytes,
        data: bytes,
        path: Path,
        now: float,
        context: T,
        *,
        rto: float = RTO,
        rc: int = RC,
        rm: int = RM,
    ) -> None:
        """Send the request ``data`` on ``path`` now, and again on the schedule of ``rto``, ``rc`` and ``rm``.

        Raises :class:`LocalProtocolError` when ``transaction_id`` is not 12 bytes or already pending, when
        the table is full, or when the schedule makes no sense.
        """
        if len(transaction_id) != TRANSACTION_ID_LENGTH:
            raise LocalProtocolError(f"a transaction ID of {len(transaction_id)} bytes, not 12")
        if transaction_id in self._pending:
            raise LocalProtocolError("a transaction with this ID is already pending")
        if len(self._pending) >= self.limit:
            raise LocalProtocolError(f"already {self.limit} transactions pending")
        if rto < _SHORTEST_RTO or rc < 1 or rm < 1:
            raise LocalProtocolError(f"a schedule of RTO {rto}, Rc {rc}, Rm {rm}")
        pending = Pending(transaction_id, data, path, context, now, now, rto, rc, rm)
        self._pending[transaction_id] = pending
        self._outbox.put(pending)
        self._arm(pending)

    def match(self, message: Message, path: Path) -> Pending[T] | None:
        """The request that ``message`` answers, or None; it stays pending until :meth:`finish`.

        A response counts only when it comes from where the request went, to where it was sent from:
        knowing the transaction ID is not enough (RFC 8489 §6.3.1.2). Requests and indications answer nothing.
        """
        if not message.is_response:
            return None
        pending = self._pending.get(message.transaction_id)
        return pending if pending is not None and pending.path == path else None

    def get(self, transaction_id: bytes) -> Pending[T] | None:
        """The pending request with that ID, or None."""
        return self._pending.get(transaction_id)

    def finish(self, transaction_id: bytes) -> Pending[T] | None:
        """Forget the request with that ID and return it; None when there is none. It is not sent again."""
        pending = self._pending.pop(transaction_id, None)
        if pending is not None and len(self._heap) > 2 * len(self._pending) + 64:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapify(self._heap)
        return pending

    def clear(self) -> list[Pending[T]]:
        """Forget every request; returns those that were in flight, oldest first."""
        pending = list(self._pending.values())
        self._pending.clear()
        self._heap.clear()
        self._outbox.clear()
        return pending

    def handle_timeout(self, now: float) -> list[Pending[T]]:
        """Queue the retransmissions due at ``now``; remove and return the requests that timed out."""
        failed: list[Pending[T]] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            if not self._is_current(entry):
                continue
            pending = entry[2]
            if pending.attempts >= pending.rc:
                del self._pending[pending.transaction_id]
                failed.append(pending)
                continue
            pending.attempts += 1
            pending.sent_at = now
            self._outbox.put(pending)
            self._arm(pending)
        return failed

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None; those of finished requests are left out."""
        while (pending := self._outbox.poll()) is not None:
            if self._pending.get(pending.transaction_id) is pending:
                return Transmit(pending.data, pending.path)
        return None

    def next_timeout(self) -> float | None:
        """When something is due, in the clock of ``now``, or None."""
        while self._heap and not self._is_current(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._pending)

    def _arm(self, pending: Pending[T]) -> None:
        # from when it was really sent, so that a late driver does not send a burst
        pending.due = pending.sent_at + pending.wait()
        self._order += 1
        heappush(self._heap, (pending.due, self._order, pending))

    def _is_current(self, entry: tuple[float, int, Pending[T]]) -> bool:
        due, _, pending = entry
        return self._pending.get(pending.transaction_id) is pending and pending.due == due
