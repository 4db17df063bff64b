"""The client's side before a connection exists: a few attempts, each with a session of its own.

The engine alone would repeat a lost flight after 1, 2, 4... seconds. A new attempt every so often costs one
or two datagrams and bounds the damage of bad luck; the old ones stay in the race. An answer with the wrong
certificate or a wrong proof ends them all at once: that is no bad luck.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from natwalk.core import Drops, earliest
from natwalk.secure.attempts import Attempts
from natwalk.secure.session import Session

UNSECURED_AT_ONCE: Final = 3
SESSIONS_LIMIT: Final = 8
ATTEMPTS_LIMIT: Final = 16
INTERVALS: Final = (1.2, 1.3, 1.5)
"""Seconds before the second, third and fourth attempt; the last interval is between all further ones."""


class Dialler(Attempts):
    """Makes attempts until one session is proven."""

    def __init__(self, make_session: Callable[[], Session], drops: Drops) -> None:
        super().__init__(drops)
        self._make_session = make_session
        self._made = 0
        self._next_attempt: float | None = None

    def start(self, now: float) -> None:
        """Make an attempt now, if there are any left, and say when the next is due."""
        if self._made >= ATTEMPTS_LIMIT or len(self._sessions) >= SESSIONS_LIMIT:
            self._next_attempt = None
            return
        # one that has its TLS handshake behind it stays: the server may have taken it
        unsecured = [key for key, session in self._sessions.items() if not session.secured]
        if len(unsecured) >= UNSECURED_AT_ONCE:
            del self._sessions[unsecured[0]]
        session = self._make_session()
        session.engine.connect(now)
        self._sessions[session.engine.connection_id] = session
        self._next_attempt = now + INTERVALS[min(self._made, len(INTERVALS) - 1)]
        self._made += 1

    def handle_timeout(self, now: float) -> Session | None:
        """Let every session retransmit or give up, and make the next attempt when it is due."""
        decided = super().handle_timeout(now)
        if self._next_attempt is not None and self._next_attempt <= now:
            self.start(now)
        return decided

    def next_timeout(self) -> float | None:
        """The earliest timer of a session, or the next attempt."""
        return earliest(super().next_timeout(), self._next_attempt)

    def clear(self) -> None:
        """Forget every attempt, and make no more."""
        super().clear()
        self._next_attempt = None

    def _judge(self, key: bytes, session: Session, now: float) -> Session | None:
        decided = super()._judge(key, session, now)
        if not self._sessions and decided is None:
            self._next_attempt = now  # the only one was given up: no reason to wait
        return decided
