"""How much one client may ask for."""

from __future__ import annotations

from typing import Final


class RateLimit:
    """Token buckets by name, bounded in number; the one not used for longest gives way."""

    NAMES: Final = 1024

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, name: str, now: float) -> bool:
        """Whether ``name`` may have one more at ``now``; takes it if so."""
        tokens, since = self._buckets.pop(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        if len(self._buckets) >= self.NAMES:
            del self._buckets[next(iter(self._buckets))]
        allowed = tokens >= 1
        self._buckets[name] = (tokens - allowed, now)
        return allowed
