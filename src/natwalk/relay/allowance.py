"""How much of something per second: a token bucket that may go into debt."""

from __future__ import annotations


class Allowance:
    """Full at first. The rate is given each time, so that a changed configuration counts at once."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left: float | None = None
        self._at = now

    def spend(self, amount: float, now: float, *, rate: float, burst: float) -> float:
        """Take ``amount``; the seconds after which the debt is paid, 0 when there is none."""
        self._left = self._refilled(now, rate, burst) - amount
        return max(0.0, -self._left / rate)

    def take(self, now: float, *, rate: float, burst: float) -> bool:
        """Take one if there is one."""
        self._left = self._refilled(now, rate, burst)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _refilled(self, now: float, rate: float, burst: float) -> float:
        left = burst if self._left is None else min(burst, self._left + (now - self._at) * rate)
        self._at = now
        return left
