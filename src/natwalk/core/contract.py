"""The contract every protocol core keeps, and the values that cross its edge.

A core eats datagrams and clock readings and yields datagrams and events. The driver around it (an
asyncio shell, the simulator, a test) owns sockets, clocks and randomness, and after each input or command:

1. drains ``poll_transmit`` and ``poll_event`` until both return ``None``;
2. arms one timer for ``next_timeout()``.

``now`` is monotonic seconds from the driver's clock, never earlier than the one before. Early or repeated
``handle_timeout`` is harmless; after ``handle_timeout(t)``, ``next_timeout()`` is ``None`` or later than
``t``, so nothing can spin. ``receive`` never raises on wire bytes: it drops and counts the reason in
``drops``. Commands raise. Every queue and table has a stated bound.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Generic, NamedTuple, Protocol, TypeVar

from natwalk.core.address import Address

E_co = TypeVar("E_co", covariant=True)
T = TypeVar("T")

RandomBytes = Callable[[int], bytes]
"""Returns that many random bytes; shells pass ``secrets.token_bytes``."""


class Transport(StrEnum):
    """What carries messages between two transport addresses (RFC 8489 §6.2); the names of STUN URIs."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    DTLS = "dtls"

    @property
    def is_stream(self) -> bool:
        """Whether it carries bytes in order, so that messages need framing and none is sent again."""
        return self in _STREAMS


_STREAMS = frozenset({Transport.TCP, Transport.TLS})


class Path(NamedTuple):
    """Which of our sockets, which remote transport address, and over what: a 5-tuple (RFC 8656 §2).

    One UDP port and one TCP port of the same number are two sockets, so the transport is part of it.
    """

    local: Address
    remote: Address
    transport: Transport = Transport.UDP

    def __str__(self) -> str:
        return f"{self.local} -> {self.remote}"


class Transmit(NamedTuple):
    """A datagram the driver must send from ``path.local`` to ``path.remote``.

    Over a stream ``data`` is a whole framed message. ``dont_fragment`` asks for the DF bit on this one
    datagram (RFC 8656 §15), where the socket does not set it always.
    """

    data: bytes
    path: Path
    dont_fragment: bool = False


class Core(Protocol[E_co]):
    """What every datagram protocol in natwalk looks like from outside."""

    @property
    def drops(self) -> Drops:
        """Why datagrams were dropped."""

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take one datagram that arrived on ``path``; never raises on wire bytes."""

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``; harmless when nothing is."""

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""

    def poll_event(self) -> E_co | None:
        """The next event for the application, or None."""

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called, in the clock of ``now``; None for never."""


class Drops:
    """Why datagrams were dropped: bounded counters by reason, for tests, ``--verbose`` and metrics."""

    __slots__ = ("counts", "last")
    LIMIT = 64

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last: str | None = None

    def add(self, reason: str) -> None:
        """Count one drop. ``reason`` is a fixed phrase of the code, never bytes from the wire."""
        if reason not in self.counts and len(self.counts) >= self.LIMIT:
            reason = "other"
        self.counts[reason] += 1
        self.last = reason

    @classmethod
    def sum(cls, parts: Iterable[Drops]) -> Drops:
        """The counters of several parts as one snapshot; ``last`` is that of the last part that has one."""
        total = cls()
        for part in parts:
            total.counts += part.counts
            total.last = part.last or total.last
        return total

    @property
    def total(self) -> int:
        """How many datagrams were dropped, for all reasons."""
        return self.counts.total()


class Outbox(Generic[T]):
    """A bounded first-in first-out queue between a core and its driver.

    When full the newest is refused and ``refused`` counts it: a driver that drains after every input, as
    the contract says, never sees that; one that does not cannot make the core grow.
    """

    __slots__ = ("_items", "limit", "refused")

    def __init__(self, limit: int = 4096) -> None:
        self._items: deque[T] = deque()
        self.limit = limit
        self.refused = 0

    def put(self, item: T) -> bool:
        """Queue ``item``; False when the box is full and it was refused."""
        if len(self._items) >= self.limit:
            self.refused += 1
            return False
        self._items.append(item)
        return True

    def poll(self) -> T | None:
        """The oldest item, removed, or None."""
        return self._items.popleft() if self._items else None

    def clear(self) -> None:
        """Forget everything queued."""
        self._items.clear()

    def __len__(self) -> int:
        return len(self._items)
