"""Notices within seconds that a path died, judging by the data itself.

Consent (RFC 7675) takes up to 30 s to expire. Traffic tells sooner: when we sent and nothing at all came
back for a while, one authenticated check asks the other end; silence after that means the path is dead.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

QUIET: Final = 1.5
"""Seconds without an answer to what we sent before the path is suspected."""
PATIENCE: Final = 1.5
"""Seconds the check that asks has to be answered."""


class Verdict(Enum):
    """What to do about the path now."""

    FINE = "fine"
    ASK = "ask"
    DEAD = "dead"


class Liveness:
    """Watches one path. Feed it what was sent and received; act on what ``handle_timeout`` says."""

    __slots__ = ("_asked_at", "_unanswered_since")

    def __init__(self) -> None:
        self._unanswered_since: float | None = None
        self._asked_at: float | None = None

    def sent(self, now: float) -> None:
        """Something that will be answered was sent."""
        if self._unanswered_since is None:
            self._unanswered_since = now

    def received(self) -> None:
        """Anything authentic arrived: the path lives."""
        self._unanswered_since = None
        self._asked_at = None

    def suspect(self, now: float) -> None:
        """Ask at once, whatever the traffic says."""
        self._unanswered_since = now - QUIET

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` has something to say, or None."""
        if self._unanswered_since is None:
            return None
        if self._asked_at is None:
            return self._unanswered_since + QUIET
        return self._asked_at + PATIENCE

    def handle_timeout(self, now: float) -> Verdict:
        """ASK once when the path went quiet, DEAD when asking did not help, else FINE."""
        due = self.next_timeout()
        if due is None or now < due:
            return Verdict.FINE
        if self._asked_at is None:
            self._asked_at = now
            return Verdict.ASK
        self.received()
        return Verdict.DEAD
