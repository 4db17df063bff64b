"""Pings: they hold idle timers and NAT bindings, find losses after an outage, and measure the round trip."""

from __future__ import annotations

from typing import Final

from natwalk.secure.engine import Engine

PINGS_IN_FLIGHT: Final = 8


class Pinger:
    """Sends a ping every ``interval`` seconds and smooths the round-trip time of those answered."""

    def __init__(self, interval: float) -> None:
        self.rtt: float | None = None
        self._interval = interval
        self._sent_at: dict[int, float] = {}
        self._count = 0
        self._due: float | None = None

    def ping(self, engine: Engine, now: float) -> None:
        """Send one now; the next is due an interval later."""
        self._due = now + self._interval
        self._count += 1
        self._sent_at[self._count] = now
        if len(self._sent_at) > PINGS_IN_FLIGHT:
            del self._sent_at[next(iter(self._sent_at))]
        engine.ping(self._count)

    def answered(self, uid: int, now: float) -> None:
        """Smooth the round-trip time as RFC 9002 §5.3 does, on pings alone."""
        if (sent_at := self._sent_at.pop(uid, None)) is not None:
            sample = now - sent_at
            self.rtt = sample if self.rtt is None else 0.875 * self.rtt + 0.125 * sample

    def handle_timeout(self, engine: Engine, now: float) -> None:
        """Send one if it is due."""
        if self._due is not None and self._due <= now:
            self.ping(engine, now)

    def next_timeout(self) -> float | None:
        """When the next ping is due; None before the first."""
        return self._due
