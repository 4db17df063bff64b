"""Connectivity checks in motion: requests sent and answered, pairs found (RFC 8445 §7).

This part speaks the protocol; what an answer means for a pair's future is decided by the agent, to which
it hands :class:`Outcome` and :class:`Heard` values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from natwalk.core import Address, ErrorResponse, IntegrityError, Outbox, Path, Transmit
from natwalk.ice.candidate import Candidate, CandidateType, candidate_priority, local_preference
from natwalk.ice.checks import (
    ROLE_CONFLICT,
    CheckRequest,
    build_check,
    build_error,
    build_success,
    read_check,
)
from natwalk.ice.pacing import check_rto
from natwalk.ice.pair import CandidatePair
from natwalk.ice.session import Session
from natwalk.stun import (
    ERROR_CODE,
    FINGERPRINT,
    XOR_MAPPED_ADDRESS,
    Message,
    MessageClass,
    Pending,
    Transactions,
    check_integrity,
)

_UNKNOWN_ATTRIBUTE: Final = 420
_SHORT_RC: Final = 4  # nominations, and pairs that have worked before: 5.5 s instead of 39.5
_SHORT_RM: Final = 4
_ONCE_RM: Final = 16  # how many RTOs a request that is sent once waits for its answer
_PROBE_RM: Final = 2
_LEAST_RTO: Final = 0.5
_LATE: Final = 16.0  # how long an answer to a superseded check still counts, in seconds
_MAX_SUPERSEDED: Final = 256


class Purpose(Enum):
    """Why a check was sent."""

    CHECK = "check"
    NOMINATE = "nominate"
    CONSENT = "consent"
    PROBE = "probe"


@dataclass(slots=True, eq=False)
class Check:
    """What we remember of a check until it is answered."""

    pair: CandidatePair
    purpose: Purpose
    controlling: bool
    use_candidate: bool
    priority: int
    size: int = 0
    transaction_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a check ended. ``rtt`` is seconds, None when it could belong to another transmission."""

    check: Check
    ok: bool
    reason: str = ""
    rtt: float | None = None
    mapped: Address | None = None
    role_conflict: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """An authentic check came in on ``path`` and has been answered."""

    path: Path
    request: CheckRequest


class Connectivity:
    """Sends checks for pairs and answers those of the peer."""

    __slots__ = ("_answers", "_checks", "_session", "_superseded", "_transactions")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._transactions: Transactions[Check] = Transactions()
        self._checks: dict[bytes, Check] = {}
        self._superseded: dict[bytes, tuple[float, Pending[Check]]] = {}
        self._answers: Outbox[Transmit] = Outbox()

    def start(
        self,
        pair: CandidatePair,
        purpose: Purpose,
        now: float,
        *,
        outstanding: int = 0,
        use_candidate: bool = False,
        size: int = 0,
    ) -> bool:
        """Send a check of ``pair``; False when too many are under way.

        Raises :class:`LocalProtocolError` for a probe of a ``size`` that cannot be.
        """
        if len(self._transactions) >= self._transactions.limit:
            self._session.drops.add("too many checks under way")
            return False
        session = self._session
        priority = self._reflexive_priority(pair.local)
        transaction_id = session.transaction_id()
        session.nominations += purpose is Purpose.NOMINATE
        check = Check(pair, purpose, session.controlling, use_candidate, priority, size, transaction_id)
        data = build_check(
            transaction_id,
            username=session.remote_username,
            key=session.remote_key,
            priority=priority,
            controlling=session.controlling,
            tie_breaker=session.tie_breaker,
            use_candidate=use_candidate,
            nomination=session.nominations,
            size=size,
        )
        rto, rc, rm = self._schedule(pair, purpose, outstanding)
        self._transactions.start(transaction_id, data, pair.path, now, check, rto=rto, rc=rc, rm=rm)
        self._checks[transaction_id] = check
        if purpose is Purpose.CONSENT:
            pair.traffic.consent_requests_sent += 1
        else:
            pair.traffic.requests_sent += 1
        return True

    def supersede(self, pair: CandidatePair, now: float) -> None:
        """Send the ordinary checks under way on ``pair`` no more (RFC 8445 §7.3.1.4).

        An answer to them still counts for a while, silence does not.
        """
        for check in self._of(pair):
            pending = self._transactions.get(check.transaction_id)
            if check.purpose is Purpose.CHECK and pending is not None:
                self._finish(check)
                self._superseded[check.transaction_id] = (now + _LATE, pending)
        while len(self._superseded) > _MAX_SUPERSEDED:
            del self._superseded[next(iter(self._superseded))]

    def forget(self, pair: CandidatePair) -> None:
        """Drop every transaction of ``pair``."""
        for check in self._of(pair):
            self._finish(check)
        old = [key for key, (_, pending) in self._superseded.items() if pending.context.pair is pair]
        for key in old:
            del self._superseded[key]

    def busy(self, pair: CandidatePair) -> bool:
        """Whether a check of ``pair`` is under way that will report how it ends."""
        return bool(self._of(pair))

    def on_request(self, message: Message, path: Path) -> Heard | None:
        """Answer a Binding request; what it says if it is authentic and no role conflict stopped it.

        Deviates from RFC 8489 §9.1.3: a request that is not authentic gets no error response but
        silence, so that nothing is ever sent to an address that has not proved it knows our password.
        """
        session = self._session
        try:
            request = read_check(message, ufrag=session.local.ufrag, key=session.local_key)
        except IntegrityError as error:
            session.drops.add(str(error))
            return None
        except ErrorResponse as error:
            session.drops.add("a check that is not well-formed")
            self._answer(build_error(message, error.code, error.reason, session.local_key), path)
            return None
        if session.remote is not None and request.ufrag != session.remote.ufrag:
            session.drops.add("a check from another ufrag")
            return None
        if self._conflicts(request):
            self._answer(build_error(message, ROLE_CONFLICT, "Role Conflict", session.local_key), path)
            return None
        self._answer(build_success(message, path.remote, session.local_key), path)
        return Heard(path, request)

    def resolve_role(self, request: CheckRequest) -> bool:
        """Give up our role if the request's claim says so (RFC 8445 §7.3.1.1); True when it changed."""
        if request.controlling is None or request.controlling != self._session.controlling:
            return False
        self._session.controlling = not self._session.controlling
        return True

    def knows(self, transaction_id: bytes, now: float) -> bool:
        """Whether a response with that ID answers a check of ours."""
        return self._transactions.get(transaction_id) is not None or (
            self._late(transaction_id, now) is not None
        )

    def on_response(self, message: Message, path: Path, now: float) -> Outcome | None:
        """Take a Binding response; how its check ended, or None when it is not to be believed."""
        pending = self._transactions.get(message.transaction_id) or self._late(message.transaction_id, now)
        drops = self._session.drops
        if pending is None:
            drops.add("a response to nothing we asked")
            return None
        try:
            check_integrity(message, self._session.remote_key)
        except IntegrityError:
            drops.add("a response whose integrity does not verify")
            return None
        if FINGERPRINT not in message:
            drops.add("a response without FINGERPRINT")
            return None
        self._finish(pending.context)
        pending.context.pair.traffic.responses_received += 1
        if pending.path != path:  # RFC 8445 §7.2.5.2.1
            return Outcome(pending.context, ok=False, reason="the answer came from another address")
        return _read_response(message, pending, now)

    def handle_timeout(self, now: float) -> list[Outcome]:
        """Retransmit; the checks that nobody answered."""
        outcomes = []
        for pending in self._transactions.handle_timeout(now):
            check = pending.context
            self._finish(check)
            waited = now - pending.started
            sent = "one check" if pending.attempts == 1 else f"{pending.attempts} checks"
            outcomes.append(Outcome(check, ok=False, reason=f"no answer to {sent} in {waited:.1f} s"))
        return outcomes

    def poll_transmit(self) -> Transmit | None:
        """The next answer or check to send, with the pair's local address, relayed or not."""
        return self._answers.poll() or self._transactions.poll_transmit()

    def next_timeout(self) -> float | None:
        """When a check is due to be sent again or given up."""
        return self._transactions.next_timeout()

    def close(self) -> None:
        """Forget everything under way."""
        self._transactions.clear()
        self._checks.clear()
        self._superseded.clear()
        self._answers.clear()

    def _conflicts(self, request: CheckRequest) -> bool:
        """Whether it is for the peer to change roles (RFC 8445 §7.3.1.1): we keep ours."""
        session = self._session
        if request.controlling is None or request.controlling != session.controlling:
            return False
        if session.config.lite:
            return True  # it has no other role
        ours, theirs = session.tie_breaker, request.tie_breaker
        if ours == theirs:  # both sides would go on forever changing to the same role
            session.tie_breaker = int.from_bytes(session.random_bytes(8), "big")
        return ours >= theirs if session.controlling else ours < theirs

    def _answer(self, data: bytes, path: Path) -> None:
        self._answers.put(Transmit(data, path))

    def _of(self, pair: CandidatePair) -> list[Check]:
        return [check for check in self._checks.values() if check.pair is pair]

    def _finish(self, check: Check) -> None:
        self._transactions.finish(check.transaction_id)
        self._checks.pop(check.transaction_id, None)
        self._superseded.pop(check.transaction_id, None)

    def _late(self, transaction_id: bytes, now: float) -> Pending[Check] | None:
        """The superseded check with that ID, while its answer counts."""
        expires, pending = self._superseded.get(transaction_id, (now, None))
        return pending if expires > now else None

    def _reflexive_priority(self, local: Candidate) -> int:
        """The priority of a peer-reflexive candidate that ``local`` would show as (RFC 8445 §7.1.1)."""
        preference = local.priority >> 8 & 0xFFFF
        if not preference:
            preference = local_preference(local.address.ip, 0)
        return candidate_priority(CandidateType.PEER_REFLEXIVE, preference, local.component)

    def _schedule(self, pair: CandidatePair, purpose: Purpose, outstanding: int) -> tuple[float, int, int]:
        config = self._session.config
        match purpose:
            case Purpose.CHECK if pair.validated_at is None:
                return check_rto(config.ta, outstanding), config.check_rc, config.check_rm
            case Purpose.CHECK | Purpose.NOMINATE:
                return max(_LEAST_RTO, 2 * (pair.rtt or 0)), _SHORT_RC, _SHORT_RM
            case Purpose.CONSENT:
                return _LEAST_RTO, 1, _ONCE_RM
            case Purpose.PROBE:
                return max(_LEAST_RTO, 2 * (pair.rtt or 0)), 1, _PROBE_RM


def _read_response(message: Message, pending: Pending[Check], now: float) -> Outcome:
    """What an authentic response on the right path means (RFC 8445 §7.2.5)."""
    check = pending.context
    rtt = pending.rtt(now) if pending.attempts == 1 else None
    if message.message_class is MessageClass.SUCCESS:
        mapped = message.get(XOR_MAPPED_ADDRESS)
        if mapped is None or message.unknown_required:
            return Outcome(check, ok=False, reason="the peer's answer makes no sense")
        return Outcome(check, ok=True, rtt=rtt, mapped=mapped)
    error = message.get(ERROR_CODE)
    if error is None:
        return Outcome(check, ok=False, reason="the peer's answer makes no sense")
    if error.code == ROLE_CONFLICT:
        return Outcome(check, ok=False, reason="role conflict", role_conflict=True)
    if error.code == _UNKNOWN_ATTRIBUTE and check.purpose is Purpose.PROBE:
        return Outcome(check, ok=True, rtt=rtt)  # the padding got there, even if it was not understood
    return Outcome(check, ok=False, reason=f"the peer answered {error.code} {error.reason}".rstrip())
