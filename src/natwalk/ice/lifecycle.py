"""What becomes of pairs: validated, failed, kept alive, lost, tried again."""

from __future__ import annotations

from typing import Final

from natwalk.core import Address, Path, earliest
from natwalk.ice.candidate import Candidate
from natwalk.ice.checks import CheckRequest
from natwalk.ice.connectivity import Check, Connectivity, Heard, Outcome, Purpose
from natwalk.ice.consent import Consent, choose_kept
from natwalk.ice.events import (
    DataReceived,
    Disconnected,
    PairFailed,
    PairLost,
    PairSelected,
    PairValidated,
    ProbeResult,
)
from natwalk.ice.pair import CandidatePair, On, PairInfo, State
from natwalk.ice.pairing import Pairing
from natwalk.ice.patience import Patience
from natwalk.ice.selection import Selection
from natwalk.ice.session import Session
from natwalk.ice.stats import note_received

MAX_EARLY_CHECKS: Final = 32
MAX_HELD_DATAGRAMS: Final = 32
_LONGEST_RETRY: Final = 60.0


class Lifecycle:
    """Turns what checks report into states of pairs and events."""

    def __init__(self, session: Session, pairing: Pairing, connectivity: Connectivity) -> None:
        self.selection = Selection(session, pairing, connectivity)
        self.remote_ended = False
        self.troubled = False
        """A pair in use went bad since this was last reset: mappings are worth verifying."""
        self._session = session
        self._pairing = pairing
        self._connectivity = connectivity
        self._consent = Consent(session)
        self._patience = Patience(session.config)
        self._early: dict[Path, Heard] = {}
        self._held: list[tuple[CandidatePair, bytes]] = []

    def start(self, now: float) -> None:
        """The remote parameters are known: act on the checks that came before them (RFC 8445 §7.3)."""
        self._patience.start(now)
        early, self._early = self._early, {}
        remote = self._session.remote
        for heard in early.values():
            if remote is not None and heard.request.ufrag == remote.ufrag:
                self.heard(heard, now)
            else:
                self._session.drops.add("an early check from another ufrag")

    def add_remote(self, candidate: Candidate, now: float) -> None:
        """Pair a candidate the peer signalled.

        What was met as peer-reflexive may turn out to be the peer's relay: a pair in use that was reported
        as direct is reported again.
        """
        selected = self.selection.pair
        direct = selected is not None and not selected.relayed
        for pair in self._pairing.add_remote(candidate):
            self._removed(pair, "the peer's address is a relay, and the policy is direct", now)
        if selected is not None and direct and selected.relayed:
            self._session.events.put(PairSelected(self.info(selected)))

    def heard(self, heard: Heard, now: float) -> None:
        """An authentic check came in: queue a triggered one, note a nomination (RFC 8445 §7.3.1)."""
        if self._session.remote is None:
            if heard.path in self._early or len(self._early) < MAX_EARLY_CHECKS:
                self._early[heard.path] = heard
            else:
                self._session.drops.add("too many early checks")
            return
        request = heard.request
        if self._connectivity.resolve_role(request):
            self._role_changed(now)
        pair = self._pairing.discover(heard.path, request.priority)
        if pair is None:
            return
        pair.heard_at = now
        pair.traffic.requests_received += 1
        pair.traffic.responses_sent += 1
        again = request.message.transaction_id == pair.heard_id
        pair.heard_id = request.message.transaction_id
        if self._session.config.lite:
            self._heard_by_lite(pair, request, now)
            return
        if not (pair.valid or (again and pair.state in {State.WAITING, State.IN_PROGRESS})):
            self._retrigger(pair, now)
        if request.use_candidate:
            self.selection.nominated_by_peer(pair, request, now)
            self._rekeep(now)

    def _heard_by_lite(self, pair: CandidatePair, request: CheckRequest, now: float) -> None:
        """A nominating check makes a valid pair by itself (RFC 8445 §7.3.2).

        Later checks keep it so: a lite agent asks nothing, so the peer's consent shows in its questions.
        """
        if request.use_candidate and not pair.valid:
            pair.on(On.SUCCESS)
            pair.confirmed_at, pair.reason, pair.parked, pair.retry_at = now, "", False, None
            self._validated(pair, now)
        if pair.valid:
            pair.confirmed_at, pair.unanswered_since = now, None
        if request.use_candidate:
            self.selection.nominated_by_peer(pair, request, now)

    def outcome(self, outcome: Outcome, now: float) -> None:
        """A check has ended."""
        check, pair = outcome.check, outcome.check.pair
        if self._pairing.checklist.get(pair.id) is not pair:
            return
        if check.purpose is Purpose.PROBE:
            self._session.events.put(ProbeResult(pair.id, check.size, outcome.ok, outcome.rtt))
            if not (outcome.ok or check.size):
                self._consent.doubt(pair, now)
        if outcome.role_conflict:
            self._role_conflict(check, now)
        elif outcome.ok:
            self._succeeded(outcome, now)
        elif check.purpose is Purpose.NOMINATE:
            self.selection.unanswered(pair)
            pair.suspect = pair.valid  # another goes first; whether this one is lost is for consent to say
        elif check.purpose is Purpose.CHECK and pair.state is State.IN_PROGRESS:
            self._fail(pair, outcome.reason, now)

    def data(self, pair: CandidatePair, data: bytes, now: float) -> None:
        """A datagram that is no STUN came in on ``pair``; held for a moment if our check is still out."""
        if pair.valid:
            pair.heard_at = now
            pair.unanswered_since = None
            note_received(pair, (data,), now)
            self._session.events.put(DataReceived(data, pair.id))
        elif pair.heard_id and len(self._held) < MAX_HELD_DATAGRAMS:
            self._held.append((pair, data))
        else:
            self._session.drops.add("data from a pair that is not validated")

    def relay_gone(self, relayed: Address, reason: str, now: float) -> None:
        """Our relayed address is gone, with its pairs."""
        for pair in self._pairing.drop_local(relayed):
            self._removed(pair, f"the relay's allocation was lost: {reason}", now)

    def relay_refuses(self, relayed: Address, peer: str, reason: str, now: float) -> None:
        """The relay will not forward to ``peer``: the pairs that need it cannot work."""
        for pair in list(self._pairing.checklist):
            if pair.base == relayed and pair.path.remote.host == peer:
                self._connectivity.forget(pair)
                if pair.valid:
                    self._lose(pair, reason, now)
                elif pair.state is not State.FAILED:
                    self._fail(pair, reason, now)
                pair.retry_at = None

    def tick(self, now: float) -> None:
        """Renew consent, notice its expiry, try failed pairs again."""
        # Expiry first: it may choose other pairs to keep, which are then due at once.
        for pair in self._consent.expired(list(self._pairing.checklist), now):
            self._expire(pair, now)
        for pair in self._consent.due(now):
            confirm = self.selection.confirms(pair)
            self._connectivity.start(pair, Purpose.CONSENT, now, use_candidate=confirm)
            if pair.suspect and self.selection.pair is pair:
                self._unpark()
                self.troubled = True
        for pair in self._pairing.checklist:
            if pair.retry_at is not None and pair.retry_at <= now:
                pair.retry_at = None
                if pair.state is State.FAILED:
                    pair.on(On.RETRY)

    def consider(self, now: float, *, gathered: bool) -> None:
        """Let the selection think again. ``gathered`` tells that no more local candidates come."""
        self.selection.consider(now, more_expected=not (gathered and self.remote_ended))

    def over_at(self, *, gathered: bool) -> float | None:
        """When to give up for good, as things stand (RFC 8863 §4)."""
        return self._patience.over_at(exhausted=gathered and self.remote_ended and self._exhausted())

    def next_timeout(self) -> float | None:
        """When :meth:`tick` or :meth:`consider` has something to do."""
        checklist = self._pairing.checklist
        retries = [pair.retry_at for pair in checklist if pair.retry_at is not None]
        return earliest(
            self._consent.next_timeout(checklist), self.selection.next_timeout(), min(retries, default=None)
        )

    def info(self, pair: CandidatePair) -> PairInfo:
        """A snapshot of ``pair`` for the application."""
        return pair.info(selected=pair is self.selection.pair)

    def _succeeded(self, outcome: Outcome, now: float) -> None:
        check, pair = outcome.check, outcome.check.pair
        fresh = not pair.valid
        if outcome.rtt is not None:
            pair.traffic.last_rtt = outcome.rtt
            pair.traffic.total_rtt += outcome.rtt
            pair.rtt = outcome.rtt if pair.rtt is None else 0.75 * pair.rtt + 0.25 * outcome.rtt
        pair.on(On.SUCCESS)
        pair.failures, pair.retry_at, pair.reason, pair.parked = 0, None, "", False
        self._consent.confirmed(pair, now)
        if outcome.mapped is not None:
            pair.reflexive = self._pairing.valid_local(pair, outcome.mapped, check.priority)
        if fresh:
            self._validated(pair, now)
        if check.purpose is Purpose.NOMINATE:
            self.selection.answered(pair, now)
            self._rekeep(now)

    def _validated(self, pair: CandidatePair, now: float) -> None:
        pair.validated_at = now
        self._patience.stop()
        self._connectivity.supersede(pair, now)
        self._pairing.checklist.unfreeze(pair)
        self._session.events.put(PairValidated(self.info(pair)))
        self.selection.validated(pair, now)
        self._rekeep(now)
        held, self._held = self._held, []
        for other, data in held:
            if other is pair:
                self.data(pair, data, now)
            else:
                self._held.append((other, data))

    def _fail(self, pair: CandidatePair, reason: str, now: float) -> None:
        pair.on(On.FAILURE)
        pair.reason = reason
        pair.failures += 1
        self._held = [(other, data) for other, data in self._held if other is not pair]
        once_valid = pair.validated_at is not None
        if once_valid or pair.failures <= self._session.config.check_retries:
            pair.retry_at = now + min(2.0 ** min(pair.failures - 1, 8), _LONGEST_RETRY)
        if pair.failures == 1 and not once_valid:
            self._session.events.put(PairFailed(self.info(pair), reason))

    def _lose(self, pair: CandidatePair, reason: str, now: float) -> None:
        pair.on(On.LOSE)
        pair.reason = reason
        pair.suspect = False
        pair.retry_at = now + 1.0
        self._gone(pair, reason, now)

    def _expire(self, pair: CandidatePair, now: float) -> None:
        in_use = pair is self.selection.pair or pair in self._consent.kept
        if in_use or self.selection.wanted(pair):
            self._lose(pair, f"no answer for {self._session.config.consent_expiry:.0f} s", now)
            return
        pair.on(On.PARK)
        pair.parked = True
        pair.reason = "not kept alive, better pairs are"
        self._gone(pair, pair.reason, now)

    def _removed(self, pair: CandidatePair, reason: str, now: float) -> None:
        """A pair that has left the checklist."""
        pair.reason = reason
        if pair.valid:
            pair.on(On.LOSE)
            self._gone(pair, reason, now)
        elif pair.state is not State.FAILED:
            pair.on(On.FAILURE)
            self._session.events.put(PairFailed(self.info(pair), reason))
        self._connectivity.forget(pair)

    def _gone(self, pair: CandidatePair, reason: str, now: float) -> None:
        """``pair`` is valid no more."""
        self._connectivity.forget(pair)
        was_selected = pair is self.selection.pair
        self.selection.gone(pair)
        self._session.events.put(PairLost(self.info(pair), reason))
        self._rekeep(now)
        if was_selected:
            self.troubled = True
            self._unpark()
        if not any(other.valid for other in self._pairing.checklist):
            self._unpark()
            self._session.events.put(Disconnected(reason))
            self._patience.start(now)

    def _rekeep(self, now: float) -> None:
        if not self._session.config.lite:
            self._consent.keep(choose_kept(self._pairing.checklist, self.selection.pair), now)

    def _unpark(self) -> None:
        for pair in self._pairing.checklist:
            pair.parked = False

    def _retrigger(self, pair: CandidatePair, now: float) -> None:
        self._connectivity.supersede(pair, now)
        self._pairing.checklist.trigger(pair)

    def _role_conflict(self, check: Check, now: float) -> None:
        """The peer keeps the role we claimed: take the other and ask again (RFC 8445 §7.2.5.1)."""
        if check.controlling == self._session.controlling:
            self._session.controlling = not self._session.controlling
            self._role_changed(now)
        if not check.pair.valid:
            self._retrigger(check.pair, now)

    def _role_changed(self, now: float) -> None:
        """Everything under way was asked in the wrong role."""
        self._pairing.checklist.reprioritise(controlling=self._session.controlling)
        self.selection.role_changed()
        for pair in self._pairing.checklist:
            if pair.state is State.IN_PROGRESS:
                self._retrigger(pair, now)

    def _exhausted(self) -> bool:
        return all(
            pair.state is State.FAILED and pair.retry_at is None and not self._connectivity.busy(pair)
            for pair in self._pairing.checklist
        )
