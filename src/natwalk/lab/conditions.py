"""What a cable does to what goes through it: delay, jitter, loss in bursts, a rate with a queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

QUEUE = 0.1
"""Seconds of traffic that wait before a rate limit; what does not fit is lost."""
IN_FLIGHT = 10_000
"""Frames on their way in one direction at a time; more are lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """One way of a cable. Raises ValueError for what cannot be."""

    delay: float = 0.0
    """Seconds, one way."""
    jitter: float = 0.0
    """Up to so many seconds more or less, evenly; order is kept."""
    loss: float = 0.0
    """Share of frames that are lost, 0 to less than 1."""
    burst: float = 1.0
    """How many are lost in a row, on average (Gilbert-Elliott)."""
    rate: float | None = None
    """Bits a second; None: no limit."""

    def __post_init__(self) -> None:
        if self.delay < 0 or not 0 <= self.jitter <= self.delay:
            raise ValueError(f"a delay of {self.delay} s with a jitter of {self.jitter} s cannot be")
        if not 0 <= self.loss < 1 or self.burst < 1:
            raise ValueError(f"a loss of {self.loss} in bursts of {self.burst} cannot be")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"a rate of {self.rate} bits a second cannot be")


class Shaper:
    """Holds the frames of one way until their time. ``random`` gives numbers from 0 to below 1."""

    def __init__(self, conditions: Conditions, random: Callable[[], float]) -> None:
        self.lost = 0
        self._conditions = conditions
        self._random = random
        self._losing = False
        self._free_at = 0.0
        self._flying: deque[tuple[float, bytes]] = deque()

    def change(self, conditions: Conditions) -> None:
        """Do so from now on; what is on its way is not touched."""
        self._conditions = conditions

    def send(self, frame: bytes, now: float) -> None:
        """Put ``frame`` on its way."""
        conditions = self._conditions
        if len(self._flying) >= IN_FLIGHT or (conditions.loss and self._loses()):
            self.lost += 1
            return
        leaves = now
        if conditions.rate is not None:
            begins = max(now, self._free_at)
            if begins - now > QUEUE:
                self.lost += 1
                return
            leaves = self._free_at = begins + len(frame) * 8 / conditions.rate
        due = leaves + conditions.delay
        if conditions.jitter:
            due += conditions.jitter * (2 * self._random() - 1)
        if self._flying:
            due = max(due, self._flying[-1][0])
        self._flying.append((due, frame))

    def arrived(self, now: float) -> list[bytes]:
        """The frames whose time has come."""
        out = []
        while self._flying and self._flying[0][0] <= now:
            out.append(self._flying.popleft()[1])
        return out

    def next_arrival(self) -> float | None:
        """When the next frame arrives, or None."""
        return self._flying[0][0] if self._flying else None

    def _loses(self) -> bool:
        loss, burst = self._conditions.loss, self._conditions.burst
        if self._losing:
            self._losing = self._random() >= 1 / burst
        else:
            self._losing = self._random() < loss / (burst * (1 - loss))
        return self._losing
