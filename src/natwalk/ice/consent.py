"""Consent and liveness: whether the peer is still there and a pair still works (RFC 7675).

Every pair kept alive gets a check about every five seconds. Only a response that verifies renews consent;
30 seconds without one and the pair is lost. Long before that, silence makes a pair *suspect*: after an
unanswered check, or when data is sent and nothing comes back, checks follow quickly, and a few misses in
a row are reason enough for the controlling side to nominate another pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from natwalk.ice.nomination import rank
from natwalk.ice.pair import CandidatePair
from natwalk.ice.session import Session

KEPT_BESIDE_SELECTED: Final = 2
KEPT_BEFORE_SELECTION: Final = 8
_QUICK_MISSES: Final = 10
"""After so many misses in a row checks go back to the usual pace."""
_QUICK: Final = 0.7
"""Seconds between quick checks, or more where the round trip is longer."""
_LATELY: Final = 2.0


def choose_kept(pairs: Iterable[CandidatePair], selected: CandidatePair | None) -> list[CandidatePair]:
    """The valid pairs worth consent checks: the selected one, and two others.

    Of the others one is relayed, and when the selected pair is relayed one is direct, however suspect: it
    may recover. Before anything is selected, the best eight.
    """
    valid = sorted((pair for pair in pairs if pair.valid and pair is not selected), key=rank, reverse=True)
    if selected is None or not selected.valid:
        return valid[:KEPT_BEFORE_SELECTION]
    kinds = (True, False) if selected.relayed else (True,)
    firsts = [next((pair for pair in valid if pair.relayed is relayed), None) for relayed in kinds]
    others = [pair for pair in firsts if pair is not None]
    others += [pair for pair in valid if pair not in others]
    return [selected, *others[:KEPT_BESIDE_SELECTED]]


class Consent:
    """Decides when kept pairs are checked, which are suspect and which have expired; sends nothing."""

    __slots__ = ("_session", "kept")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.kept: list[CandidatePair] = []

    def keep(self, pairs: list[CandidatePair], now: float) -> None:
        """Keep these pairs alive from now on, and no others."""
        for pair in self.kept:
            if pair not in pairs:
                pair.check_at = pair.asked_at = None
        for pair in pairs:
            if pair.check_at is None:
                pair.check_at = max(now + self._session.config.ta, pair.confirmed_at + self._interval())
        self.kept = pairs

    def confirmed(self, pair: CandidatePair, now: float) -> None:
        """A verified response came back on ``pair``: consent is fresh (RFC 7675 §5.1)."""
        pair.confirmed_at = now
        pair.misses = 0
        pair.suspect = False
        pair.asked_at = None
        pair.unanswered_since = None
        if pair.check_at is not None:
            pair.check_at = now + self._interval()

    def doubt(self, pair: CandidatePair, now: float) -> None:
        """Something says that ``pair`` may not work: check it soon."""
        if pair.check_at is not None and pair.asked_at is None:
            pair.check_at = now + self._session.config.ta

    def due(self, now: float) -> list[CandidatePair]:
        """The kept pairs to check at ``now``, with their schedules moved on and misses counted."""
        pairs = []
        for pair in self.kept:
            silence_at = self._silence_at(pair)
            if (pair.check_at is not None and pair.check_at <= now) or (silence_at or now + 1) <= now:
                self._ask(pair, now)
                pairs.append(pair)
        return pairs

    def expired(self, pairs: Iterable[CandidatePair], now: float) -> list[CandidatePair]:
        """The valid pairs whose consent has run out at ``now``."""
        expiry = self._session.config.consent_expiry
        return [pair for pair in pairs if pair.valid and pair.confirmed_at + expiry <= now]

    def next_timeout(self, pairs: Iterable[CandidatePair]) -> float | None:
        """When something is due for the kept pairs, or consent of one of ``pairs`` runs out."""
        expiry = self._session.config.consent_expiry
        times = [pair.confirmed_at + expiry for pair in pairs if pair.valid]
        for pair in self.kept:
            times += [at for at in (pair.check_at, self._silence_at(pair)) if at is not None]
        return min(times, default=None)

    def _ask(self, pair: CandidatePair, now: float) -> None:
        if pair.asked_at is not None:
            pair.misses += 1
            enough = self._session.config.suspect_misses
            if now - pair.heard_at < _LATELY:
                enough *= 2  # something does come in: only our own direction, or luck, can be bad
            pair.suspect = pair.suspect or pair.misses >= enough
        pair.asked_at = now
        quick = pair.misses < _QUICK_MISSES
        pair.check_at = now + (max(_QUICK, 0.2 + 1.5 * (pair.rtt or 0)) if quick else self._interval())

    def _silence_at(self, pair: CandidatePair) -> float | None:
        """When data without an answer calls for a check, unless one is out already."""
        if pair.unanswered_since is None or pair.asked_at is not None:
            return None
        return pair.unanswered_since + self._session.config.suspect_silence

    def _interval(self) -> float:
        return self._session.config.consent_interval * self._session.between(0.8, 1.2)
