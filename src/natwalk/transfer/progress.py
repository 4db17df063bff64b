"""How far a transfer is, how fast it goes and how long it will still take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW: Final = 5.0
"""Seconds over which the rate is averaged."""
INTERVAL: Final = 0.1
"""Seconds between two reports: at most ten a second."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A reading of one transfer; all sizes in bytes."""

    done: int
    """Bytes at the receiver, with those from an earlier connection."""
    total: int
    resumed: int
    """Bytes that did not have to be sent again."""
    rate: float
    """Bytes a second over the last seconds."""
    files_done: int
    files_total: int
    current: str
    """Path of the file under way, unescaped; ``""`` before the first."""

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None while nobody can tell."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


class ProgressMeter:
    """Counts bytes and turns them into :class:`Progress`, at most ten times a second."""

    __slots__ = ("_reported", "_samples", "current", "done", "files_done", "files_total", "resumed", "total")

    def __init__(self, total: int, files_total: int, now: float) -> None:
        self.total = total
        self.files_total = files_total
        self.done = 0
        self.resumed = 0
        self.files_done = 0
        self.current = ""
        self._samples: deque[tuple[float, int]] = deque([(now, 0)], maxlen=int(WINDOW / INTERVAL) + 2)
        self._reported = float("-inf")

    @property
    def moved(self) -> int:
        """Bytes moved over this connection."""
        return self.done - self.resumed

    def due(self, now: float) -> bool:
        """True when a report may be made; that counts as made."""
        if now - self._reported < INTERVAL:
            return False
        self._reported = now
        self._samples.append((now, self.moved))
        while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW:
            self._samples.popleft()
        return True

    def reading(self, now: float) -> Progress:
        """The state of things at ``now``."""
        since, before = self._samples[0]
        rate = max(0.0, (self.moved - before) / (now - since)) if now > since else 0.0
        return Progress(
            self.done, self.total, self.resumed, rate, self.files_done, self.files_total, self.current
        )
