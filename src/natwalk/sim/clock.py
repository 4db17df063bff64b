"""Virtual time: a heap of calls to make, and timers that move without cost."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from natwalk.core import NatError

START = 1000.0
"""When every simulation begins, in seconds; not 0, so that no code mistakes it for an unset time."""

WALL_OFFSET = 1_767_225_600.0
"""Unix time minus virtual time: simulations happen early in 2026, for what expires by the calendar."""


class SimulationError(NatError):
    """A simulation cannot go on: too many events, or a core that broke its contract."""


class Clock:
    """The time, in seconds, and what is still to happen; ties happen in the order they were asked for."""

    def __init__(self, start: float = START) -> None:
        self.now = start
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def call_at(self, at: float, call: Callable[..., None], *args: object) -> None:
        """Have ``call(*args)`` made at ``at``; a time already past means now."""
        self._sequence += 1
        heappush(self._heap, (at if at > self.now else self.now, self._sequence, call, args))

    def run(self, until: float | None, stop: Callable[[], bool] | None, max_events: int) -> bool:
        """Make calls until ``stop()`` is true, time ``until`` is reached or nothing is left to happen.

        Returns True when ``stop`` said so. Raises SimulationError after ``max_events`` calls.
        """
        heap = self._heap
        for _ in range(max_events):
            if stop is not None and stop():
                return True
            if not heap or (until is not None and heap[0][0] > until):
                if until is not None:
                    self.now = max(self.now, until)
                return False
            self.now, _, call, args = heappop(heap)
            call(*args)
        if stop is not None and stop():
            return True
        raise SimulationError(f"still busy after {max_events} events, at {self.now:.6f} s")

    def __len__(self) -> int:
        return len(self._heap)


class Alarm:
    """One timer that is set again and again, as after every packet.

    It keeps one call in the heap and lets it come: a timer moved later is put back when the call arrives too
    early, one moved earlier gets another call and ignores the old one.
    """

    __slots__ = ("_call", "_clock", "_due", "_pending")

    def __init__(self, clock: Clock, call: Callable[[], None]) -> None:
        self._clock = clock
        self._call = call
        self._due: float | None = None
        self._pending: float | None = None

    def set(self, due: float | None) -> None:
        """Ring at ``due`` instead of whenever it was set to; None for never."""
        self._due = due
        if due is not None and (self._pending is None or due < self._pending):
            self._pending = due
            self._clock.call_at(due, self._arrive, due)

    def _arrive(self, pending: float) -> None:
        if pending != self._pending:
            return
        self._pending = None
        due = self._due
        if due is None:
            return
        if due > self._clock.now:
            self.set(due)
            return
        self._due = None
        self._call()
