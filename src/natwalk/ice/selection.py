"""The selected pair: nominating it, following the peer's nominations, losing it (RFC 8445 §8)."""

from __future__ import annotations

from natwalk.ice.checks import CheckRequest
from natwalk.ice.connectivity import Connectivity, Purpose
from natwalk.ice.events import PairSelected
from natwalk.ice.nomination import best, choose
from natwalk.ice.pair import CandidatePair
from natwalk.ice.pairing import Pairing
from natwalk.ice.session import Session


class Selection:
    """Which pair is in use. The controlling side chooses by :mod:`natwalk.ice.nomination`."""

    __slots__ = (
        "_again_at",
        "_connectivity",
        "_followed",
        "_last_switch",
        "_nominating",
        "_pairing",
        "_session",
        "pair",
    )

    def __init__(self, session: Session, pairing: Pairing, connectivity: Connectivity) -> None:
        self.pair: CandidatePair | None = None
        self._session = session
        self._pairing = pairing
        self._connectivity = connectivity
        self._nominating: CandidatePair | None = None
        self._last_switch: float | None = None
        self._again_at: float | None = None
        self._followed = 0

    def current(self) -> CandidatePair | None:
        """The pair to send on: the selected one unless it is lost or suspect and another is better."""
        selected = self.pair
        if selected is not None and selected.valid and not selected.suspect:
            return selected
        return best(self._pairing.checklist.pairs.values())

    def consider(self, now: float, *, more_expected: bool) -> None:
        """Nominate a pair if we are controlling and it is time (RFC 8445 §8.1.1)."""
        self._again_at = None
        if not self._session.controlling or self._nominating is not None:
            return
        choice = choose(
            now,
            self._pairing.checklist.pairs.values(),
            self.pair,
            config=self._session.config,
            last_switch=self._last_switch,
            more_expected=more_expected,
        )
        self._again_at = choice.again_at
        if choice.pair is not None and self._connectivity.start(
            choice.pair, Purpose.NOMINATE, now, use_candidate=True
        ):
            self._nominating = choice.pair

    def answered(self, pair: CandidatePair, now: float) -> None:
        """Our nomination of ``pair`` has been answered: both sides use it from now on."""
        if self._nominating is pair:
            self._nominating = None
        if self._session.controlling:
            self._select(pair, now)

    def unanswered(self, pair: CandidatePair) -> None:
        """Our nomination of ``pair`` has failed."""
        if self._nominating is pair:
            self._nominating = None

    def nominated_by_peer(self, pair: CandidatePair, request: CheckRequest, now: float) -> None:
        """The peer nominates ``pair`` (RFC 8445 §7.3.1.5): follow, now or when our own check succeeds.

        The latest one counts: by its number if the peer counts them, else by when it came.
        """
        transaction_id = request.message.transaction_id
        if self._session.controlling or transaction_id == pair.nomination_id:
            return
        if request.nomination is not None:
            if request.nomination < self._followed:
                self._session.drops.add("a nomination that a later one has overtaken")
                return
            self._followed = request.nomination
        pair.nomination_id = transaction_id
        for other in self._pairing.checklist:
            other.nomination_pending = False
        if pair.valid:
            self._select(pair, now)
        else:
            pair.nomination_pending = True

    def validated(self, pair: CandidatePair, now: float) -> None:
        """``pair`` has succeeded: select it if the peer nominated it before (RFC 8445 §7.3.1.5)."""
        if pair.nomination_pending and not self._session.controlling:
            self._select(pair, now)

    def gone(self, pair: CandidatePair) -> None:
        """``pair`` is valid no more."""
        self.unanswered(pair)
        pair.nomination_pending = False
        if self.pair is pair:
            pair.demotions += 1
            self.pair = None

    def role_changed(self) -> None:
        """Whatever was nominated in the other role does not count."""
        self._nominating = None
        self._followed = 0

    def freeze(self) -> None:
        """Nominate nothing more: a restart is under way, which chooses anew."""
        self._again_at = self._nominating = None

    def confirms(self, pair: CandidatePair) -> bool:
        """Whether a consent check of ``pair`` repeats its nomination, so that both sides keep agreeing."""
        return self._session.controlling and self._nominating is None and self.pair is pair

    def wanted(self, pair: CandidatePair) -> bool:
        """Whether checking ``pair`` can improve on what there is."""
        selected = self.pair
        if selected is None or not selected.valid or selected.suspect:
            return True
        if pair.relayed:
            return not any(other.valid and other.relayed for other in self._pairing.checklist)
        return selected.relayed or pair.priority > selected.priority

    def next_timeout(self) -> float | None:
        """When :meth:`consider` may come to another choice."""
        return self._again_at

    def _select(self, pair: CandidatePair, now: float) -> None:
        pair.nominated = True
        pair.nomination_pending = False
        if self.pair is pair:
            return
        if self.pair is not None and self.pair.suspect:
            self.pair.demotions += 1
        self.pair = pair
        self._last_switch = now
        self._session.events.put(PairSelected(pair.info(selected=True)))
