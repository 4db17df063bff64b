"""Timers are data: a table from a timer's name to when it is due."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


def earliest(*deadlines: float | None) -> float | None:
    """The smallest deadline that is set, or None."""
    return min((d for d in deadlines if d is not None), default=None)


class Timers(Generic[K]):
    """Deadlines by key, for the few dozen timers of one connection.

    ``next_timeout`` is the minimum; ``due`` removes and returns what has come. Tables with thousands of
    entries (a server's) keep a heap of their own.
    """

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at: dict[K, float] = {}

    def set(self, key: K, at: float) -> None:
        """Arm ``key`` for ``at``, replacing what it was armed for."""
        self._at[key] = at

    def cancel(self, key: K) -> None:
        """Disarm ``key``; harmless when it is not armed."""
        self._at.pop(key, None)

    def clear(self) -> None:
        """Disarm everything."""
        self._at.clear()

    def get(self, key: K) -> float | None:
        """When ``key`` is due, or None when it is not armed."""
        return self._at.get(key)

    def due(self, now: float) -> Iterable[K]:
        """Disarm and return every key due at ``now``, earliest first."""
        keys = sorted((k for k, at in self._at.items() if at <= now), key=self._at.__getitem__)
        for key in keys:
            del self._at[key]
        return keys

    def next_timeout(self) -> float | None:
        """The earliest deadline, or None."""
        return min(self._at.values(), default=None)

    def __len__(self) -> int:
        return len(self._at)
