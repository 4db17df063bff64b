"""The table of a NAT: its bindings, found by every key, in order of use, gone at their exact time.

Expiry is a heap with one live entry a binding. Refreshing a binding only moves its ``expires_at``; a heap
entry that comes due too early is put back at the later time, so a busy binding costs no heap work. Only a
deadline that moves closer (a TCP connection that closes) makes a new entry; the old one is void then.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from heapq import heappop, heappush, heapreplace
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from natwalk.core import Address
from natwalk.nat.packet import IpProtocol
from natwalk.nat.tcp import TcpSession

Key = Hashable
"""A tuple that begins with the protocol; what follows is the business of who makes it."""


class Guest(NamedTuple):
    """Whom a forward lets in: a network, and a port of it or all (0); a FILTER of RFC 6887 §13.3."""

    network: IPv4Network | IPv6Network
    port: int

    def is_(self, remote: Address) -> bool:
        """Whether ``remote`` is meant."""
        return remote.ip in self.network and self.port in (0, remote.port)


class Binding:
    """One mapping: an internal transport address seen outside as an external one."""

    __slots__ = (
        "alive",
        "created",
        "expires_at",
        "external",
        "external_key",
        "forward",
        "guests",
        "idle",
        "internal",
        "key",
        "limit",
        "peers",
        "protocol",
        "sessions",
        "ticket",
    )

    def __init__(
        self,
        key: Key | None,
        external_key: Key,
        protocol: IpProtocol,
        internal: Address,
        external: Address,
        created: float,
        expires_at: float,
    ) -> None:
        self.key = key
        """Of packets out; None once a newer mapping took its place."""
        self.external_key = external_key
        self.protocol = protocol
        self.internal = internal
        self.external = external
        self.created = created
        self.expires_at = expires_at
        self.idle = 0.0
        """Seconds without a refresh until it ends; not of TCP."""
        self.limit: float | None = None
        """When it ends at the latest."""
        self.peers: dict[Hashable, float] = {}
        """Whom it lets in, by what filtering compares, until when; oldest first. Not of TCP."""
        self.sessions: dict[Address, TcpSession] = {}
        """Its TCP connections by remote address."""
        self.forward = False
        """Made by a mapping service: lets everybody in, and traffic does not refresh it."""
        self.guests: tuple[Guest, ...] = ()
        """Whom alone a forward lets in; empty for everybody."""
        self.alive = True
        self.ticket = 0
        """Number of its live entry in the heap."""

    def welcomes(self, remote: Address) -> bool:
        """Whether a forward lets ``remote`` in."""
        return not self.guests or any(guest.is_(remote) for guest in self.guests)


class BindingTable:
    """All bindings of one NAT. Bounded by its owner, which asks ``len`` and ``count`` before ``add``.

    ``by_key`` finds the binding for packets out, ``by_external`` that for packets in; ``heap[0][0]``, when
    there is one, is never later than the next expiry. With ``by_use`` bindings are kept in the order of their
    last use, else in that of their making.
    """

    def __init__(self, *, by_use: bool = True) -> None:
        self.by_key: dict[Key, Binding] = {}
        self.by_external: dict[Key, Binding] = {}
        self.heap: list[tuple[float, int, Binding]] = []
        self._reorders = by_use
        self._all: dict[Binding, None] = {}
        self._by_subscriber: dict[str, dict[Binding, None]] = {}
        self._sequence = 0

    def count(self, subscriber: str) -> int:
        """How many bindings the internal host ``subscriber`` has."""
        return len(self._by_subscriber.get(subscriber, ()))

    def add(self, binding: Binding) -> None:
        """Enter a binding. Its key is free; if its external key is not, it takes it over."""
        if binding.key is not None:
            self.by_key[binding.key] = binding
        self.by_external[binding.external_key] = binding
        self._all[binding] = None
        self._by_subscriber.setdefault(binding.internal.host, {})[binding] = None
        self._push(binding)

    def touch(self, binding: Binding, expires_at: float) -> None:
        """Make ``binding`` the most recently used, alive until ``expires_at`` (not earlier than before)."""
        binding.expires_at = expires_at
        if self._reorders:
            for order in (self._all, self._by_subscriber[binding.internal.host]):
                del order[binding]
                order[binding] = None

    def hasten(self, binding: Binding, expires_at: float) -> None:
        """Have ``binding`` end at ``expires_at``, which is earlier than before."""
        binding.expires_at = expires_at
        self._push(binding)
        self._compact_if_worth_it()

    def detach(self, binding: Binding) -> None:
        """Let packets out no longer find ``binding``; those in still do until it ends."""
        if binding.key is not None:
            del self.by_key[binding.key]
            binding.key = None

    def oldest(self, subscriber: str | None = None) -> Binding | None:
        """The first binding in order, of one internal host or of all."""
        order = self._all if subscriber is None else self._by_subscriber.get(subscriber, {})
        return next(iter(order), None)

    def remove(self, binding: Binding) -> None:
        """Forget one binding; its heap entry goes when it comes due."""
        binding.alive = False
        self.detach(binding)
        if self.by_external.get(binding.external_key) is binding:
            del self.by_external[binding.external_key]
        del self._all[binding]
        mine = self._by_subscriber[binding.internal.host]
        del mine[binding]
        if not mine:
            del self._by_subscriber[binding.internal.host]
        self._compact_if_worth_it()

    def expire(self, now: float) -> list[Binding]:
        """Remove and return every binding whose time has come: ``expires_at <= now``."""
        gone: list[Binding] = []
        while (at := self.next_expiry()) is not None and at <= now:
            binding = heappop(self.heap)[2]
            self.remove(binding)
            gone.append(binding)
        return gone

    def next_expiry(self) -> float | None:
        """When the next binding is due, exactly; None when there is none."""
        heap = self.heap
        while heap:
            at, ticket, binding = heap[0]
            if not binding.alive or ticket != binding.ticket:
                heappop(heap)
            elif at != binding.expires_at:
                heapreplace(heap, (binding.expires_at, ticket, binding))
            else:
                return at
        return None

    def clear(self) -> None:
        """Forget everything."""
        for binding in self._all:
            binding.alive = False
        self.by_key.clear()
        self.by_external.clear()
        self.heap.clear()
        self._all.clear()
        self._by_subscriber.clear()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._all)

    def _push(self, binding: Binding) -> None:
        self._sequence += 1
        binding.ticket = self._sequence
        heappush(self.heap, (binding.expires_at, self._sequence, binding))

    def _compact_if_worth_it(self) -> None:
        heap = self.heap
        if len(heap) > 2 * len(self._all) + 64:
            heap[:] = [(b.expires_at, b.ticket, b) for b in self._all]
            heap.sort()
