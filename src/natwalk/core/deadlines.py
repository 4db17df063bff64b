"""Deadlines by key for tables with thousands of entries: a heap with lazy deletion.

:class:`natwalk.core.Timers` is the same for the few dozen timers of one connection.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """One deadline a key, set and found in O(log n).

    A moved or cancelled deadline leaves a stale entry in the heap, skipped when it surfaces; the heap is
    rebuilt before it holds more than twice the keys plus 64 entries.
    """

    __slots__ = ("_at", "_count", "_heap")

    def __init__(self) -> None:
        self._at: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def set(self, key: K, at: float) -> None:
        """Arm ``key`` for ``at``, replacing what it was armed for."""
        self._count += 1
        self._at[key] = (at, self._count)
        heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(when, count, k) for k, (when, count) in self._at.items()]
            heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Disarm ``key``; harmless when it is not armed."""
        self._at.pop(key, None)

    def clear(self) -> None:
        """Disarm everything."""
        self._at.clear()
        self._heap.clear()

    def get(self, key: K) -> float | None:
        """When ``key`` is due, or None when it is not armed."""
        armed = self._at.get(key)
        return None if armed is None else armed[0]

    def pop_due(self, now: float) -> K | None:
        """The earliest key due at ``now``, disarmed, or None."""
        at = self.next_timeout()
        if at is None or at > now:
            return None
        key = heappop(self._heap)[2]
        del self._at[key]
        return key

    def due(self, now: float) -> list[K]:
        """Disarm and return every key due at ``now``, earliest first."""
        keys: list[K] = []
        while (key := self.pop_due(now)) is not None:
            keys.append(key)
        return keys

    def next_timeout(self) -> float | None:
        """The earliest deadline, or None."""
        while self._heap:
            at, count, key = self._heap[0]
            if self._at.get(key) == (at, count):
                return at
            heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._at)
