"""The table of a NAT: its bindings, found by every key, in order of use, gone at their exact time.

Expiry is a heap with one entry a binding. Refreshing a binding only moves its ``expires_at``; a heap entry
that comes due too early is put back at the later time, so a busy binding costs no heap work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace

from natwalk.core import Address

Key = tuple[Address | str | int, ...]


@dataclass(slots=True, eq=False)
class Binding:
    """One mapping: an internal transport address seen outside as an external one."""

    key: Key
    internal: Address
    external: Address
    created: float
    expires_at: float
    peers: dict[Address | str, float] = field(default_factory=dict)
    """Whom it lets in, by what filtering compares, until when; oldest first."""
    alive: bool = True


class BindingTable:
    """All bindings of one NAT. Bounded by its owner, which asks ``len`` and ``count`` before ``add``."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Binding] = {}
        self._by_external: dict[Address, Binding] = {}
        self._by_use: dict[Binding, None] = {}
        self._by_subscriber: dict[str, dict[Binding, None]] = {}
        self._heap: list[tuple[float, int, Binding]] = []
        self._sequence = 0

    def by_key(self, key: Key) -> Binding | None:
        """The binding for outbound packets of ``key``."""
        return self._by_key.get(key)

    def by_external(self, external: Address) -> Binding | None:
        """The binding for inbound packets to ``external``."""
        return self._by_external.get(external)

    def count(self, subscriber: str) -> int:
        """How many bindings the internal host ``subscriber`` has."""
        return len(self._by_subscriber.get(subscriber, ()))

    def add(self, binding: Binding) -> None:
        """Enter a binding whose keys are free."""
        self._by_key[binding.key] = binding
        self._by_external[binding.external] = binding
        self._by_use[binding] = None
        self._by_subscriber.setdefault(binding.internal.host, {})[binding] = None
        self._sequence += 1
        heappush(self._heap, (binding.expires_at, self._sequence, binding))

    def touch(self, binding: Binding, expires_at: float) -> None:
        """Make ``binding`` the most recently used, alive until ``expires_at`` (not earlier than before)."""
        binding.expires_at = expires_at
        for order in (self._by_use, self._by_subscriber[binding.internal.host]):
            del order[binding]
            order[binding] = None

    def oldest(self, subscriber: str | None = None) -> Binding | None:
        """The binding not used for longest, of one internal host or of all."""
        order = self._by_use if subscriber is None else self._by_subscriber.get(subscriber, {})
        return next(iter(order), None)

    def remove(self, binding: Binding) -> None:
        """Forget one binding; its heap entry goes when it comes due."""
        binding.alive = False
        del self._by_key[binding.key]
        del self._by_external[binding.external]
        del self._by_use[binding]
        mine = self._by_subscriber[binding.internal.host]
        del mine[binding]
        if not mine:
            del self._by_subscriber[binding.internal.host]
        if len(self._heap) > 2 * len(self._by_key) + 64:
            self._compact()

    def expire(self, now: float) -> list[Binding]:
        """Remove and return every binding whose time has come: ``expires_at <= now``."""
        gone: list[Binding] = []
        while (at := self.next_expiry()) is not None and at <= now:
            binding = heappop(self._heap)[2]
            self.remove(binding)
            gone.append(binding)
        return gone

    def next_expiry(self) -> float | None:
        """When the next binding is due, exactly; None when there is none."""
        heap = self._heap
        while heap:
            at, sequence, binding = heap[0]
            if not binding.alive:
                heappop(heap)
            elif at != binding.expires_at:
                heapreplace(heap, (binding.expires_at, sequence, binding))
            else:
                return at
        return None

    def clear(self) -> None:
        """Forget everything."""
        for binding in self._by_use:
            binding.alive = False
        for table in (self._by_key, self._by_external, self._by_use, self._by_subscriber, self._heap):
            table.clear()

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._by_use)

    def _compact(self) -> None:
        self._heap = [(b.expires_at, n, b) for n, b in enumerate(self._by_use)]
        self._heap.sort()
        self._sequence = len(self._heap)
