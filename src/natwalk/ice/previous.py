"""What an ICE restart leaves behind: pairs that carry data until the new session has one (RFC 8445 §9)."""

from __future__ import annotations

from typing import Final

from natwalk.core import Path, Transmit, earliest
from natwalk.ice.connectivity import Connectivity
from natwalk.ice.events import PairLost
from natwalk.ice.lifecycle import Lifecycle
from natwalk.ice.pair import CandidatePair, PairId
from natwalk.ice.pairing import Pairing
from natwalk.ice.session import Session
from natwalk.stun import USERNAME, Message, MessageClass

_LINGER: Final = 3.0
"""Seconds in which data still arrives on pairs of before, after one of the new session was selected."""


class Previous:
    """The session before a restart. It starts no check but those for consent, and nominates nothing."""

    def __init__(
        self, session: Session, pairing: Pairing, connectivity: Connectivity, life: Lifecycle
    ) -> None:
        self.life = life
        self.pairing = pairing
        self._session = session
        self._connectivity = connectivity
        self._ends_at: float | None = None
        life.selection.freeze()

    @property
    def carries(self) -> bool:
        """Whether data can still go this way: a pair is valid and nothing new has been selected."""
        return self._ends_at is None and self.life.selection.current() is not None

    def get(self, pair: PairId) -> CandidatePair | None:
        """The pair with that id, or None."""
        return self.pairing.checklist.get(pair)

    def valid_at(self, path: Path) -> CandidatePair | None:
        """The valid pair that uses ``path``, or None."""
        pair = self.pairing.checklist.pairs.get(path)
        return pair if pair is not None and pair.valid else None

    def claims(self, message: Message, now: float) -> bool:
        """Whether a Binding message belongs to this session: by our ufrag of then, or by its transaction."""
        if message.message_class is MessageClass.REQUEST:
            ours, _, _ = (message.get(USERNAME) or "").partition(":")
            return ours == self._session.local.ufrag
        return self._connectivity.knows(message.transaction_id, now)

    def receive(self, message: Message, path: Path, now: float) -> None:
        """Take a message this session claims."""
        if message.message_class is not MessageClass.REQUEST:
            outcome = self._connectivity.on_response(message, path, now)
            if outcome is not None:
                self.life.outcome(outcome, now)
        elif (reason := self.pairing.refusal(path)) is not None:
            self._session.drops.add(f"a check refused: {reason}")
        elif (heard := self._connectivity.on_request(message, path)) is not None:
            self.life.heard(heard, now)

    def handle_timeout(self, now: float) -> None:
        """Keep the pairs alive that were, and notice those that are lost."""
        for outcome in self._connectivity.handle_timeout(now):
            self.life.outcome(outcome, now)
        self.life.tick(now)

    def poll_transmit(self) -> Transmit | None:
        """The next answer or consent check, or None."""
        return self._connectivity.poll_transmit()

    def next_timeout(self) -> float | None:
        """When something is due here."""
        return earliest(self._connectivity.next_timeout(), self.life.next_timeout(), self._ends_at)

    def replaced(self, now: float) -> bool:
        """The new session has selected a pair: send no more here. True when it is time to forget all."""
        if self._ends_at is None:
            self._ends_at = now + _LINGER
        return self._ends_at <= now

    def close(self) -> None:
        """Forget every pair, and say so of those that were valid."""
        self._connectivity.close()
        for pair in self.pairing.checklist:
            if pair.valid:
                self._session.events.put(PairLost(pair.info(selected=False), "replaced by an ICE restart"))
