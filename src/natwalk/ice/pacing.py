"""How fast an agent may start transactions, and how long it waits for answers (RFC 8445 §14)."""

from __future__ import annotations

from typing import Final

MIN_RTO: Final = 0.5
"""Seconds; no transaction of ICE retransmits sooner (RFC 8445 §14.3)."""


def gathering_rto(ta: float, transactions: int) -> float:
    """RTO while gathering: every transaction sends once before any sends twice (RFC 8445 §14.3)."""
    return max(MIN_RTO, ta * transactions)


def check_rto(ta: float, outstanding: int) -> float:
    """RTO of a check, given how many pairs are waiting or in progress.

    Deviates from RFC 8445 §14.3, whose formula also multiplies by the number of pairs: with 100 pairs
    that is 500 s, and a lost packet would never be sent again in time. What §14.1 wants, that each check
    sends its first packet before any sends its second, holds without that factor.
    """
    return max(MIN_RTO, ta * outstanding)


class Pacer:
    """Lets one transaction start every ``ta`` seconds (RFC 8445 §14.2), gathering and checks together."""

    __slots__ = ("_free_at", "ta")

    def __init__(self, ta: float) -> None:
        self.ta = ta
        self._free_at: float | None = None

    def ready(self, now: float) -> bool:
        """Whether a transaction may start at ``now``."""
        return self._free_at is None or now >= self._free_at

    def took(self, now: float) -> None:
        """One was started at ``now``."""
        self._free_at = now + self.ta

    def at(self, now: float) -> float:
        """When the next may start: ``now`` or later."""
        return now if self._free_at is None else max(now, self._free_at)
