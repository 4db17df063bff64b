"""Deadlines by key in a heap: the timers of tables with thousands of entries."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """One deadline a key, set and found in O(log n); a moved deadline leaves a stale heap entry behind.

    Stale entries are skipped when they surface, and the heap is rebuilt before they outnumber live ones,
    so memory stays proportional to the number of keys.
    """

    __slots__ = ("_at", "_heap", "_serial")

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = count()

    def set(self, key: K, at: float) -> None:
        """Arm ``key`` for ``at``, replacing what it was armed for."""
        self._at[key] = at
        heapq.heappush(self._heap, (at, next(self._serial), key))
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at, next(self._serial), key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Disarm ``key``; harmless when it is not armed."""
        self._at.pop(key, None)

    def clear(self) -> None:
        """Disarm everything."""
        self._at.clear()
        self._heap.clear()

    def get(self, key: K) -> float | None:
        """When ``key`` is due, or None when it is not armed."""
        return self._at.get(key)

    def due(self, now: float) -> list[K]:
        """Disarm and return every key due at ``now``, earliest first."""
        keys: list[K] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                keys.append(key)
        return keys

    def next_timeout(self) -> float | None:
        """The earliest deadline, or None."""
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._at)
