"""One candidate pair: its state table, its priority, what is known of it (RFC 8445 §6.1.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NewType

from natwalk.core import Address, LocalProtocolError, Path
from natwalk.ice.candidate import Candidate, CandidateType

PairId = NewType("PairId", int)
"""Names a pair within one agent, for as long as the agent lives."""


class State(Enum):
    """Candidate pair states (RFC 8445 §6.1.2.6)."""

    FROZEN = "frozen"
    WAITING = "waiting"
    IN_PROGRESS = "in-progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class On(Enum):
    """What moves a pair from state to state."""

    UNFREEZE = "unfreeze"
    PERFORM = "perform"
    SUCCESS = "success"
    FAILURE = "failure"
    TRIGGER = "trigger"
    RETRY = "retry"
    LOSE = "lose"
    PARK = "park"


PAIR_TRANSITIONS: Final = {  # RFC 8445 §6.1.2.6; TRIGGER rows are §7.3.1.4
    (State.FROZEN, On.UNFREEZE): State.WAITING,
    (State.WAITING, On.PERFORM): State.IN_PROGRESS,
    (State.IN_PROGRESS, On.SUCCESS): State.SUCCEEDED,
    (State.IN_PROGRESS, On.FAILURE): State.FAILED,
    (State.FROZEN, On.TRIGGER): State.WAITING,
    (State.WAITING, On.TRIGGER): State.WAITING,
    (State.IN_PROGRESS, On.TRIGGER): State.WAITING,
    (State.FAILED, On.TRIGGER): State.WAITING,
    (State.SUCCEEDED, On.TRIGGER): State.SUCCEEDED,
    # An answer may overtake what happened to its pair meanwhile: a trigger, a timeout, a parking.
    (State.FROZEN, On.SUCCESS): State.SUCCEEDED,
    (State.WAITING, On.SUCCESS): State.SUCCEEDED,
    (State.FAILED, On.SUCCESS): State.SUCCEEDED,
    (State.SUCCEEDED, On.SUCCESS): State.SUCCEEDED,
    # Beyond RFC 8445: pairs live on after a nomination, so they can be lost (RFC 7675), be left in
    # reserve without consent checks, and be tried again.
    (State.SUCCEEDED, On.LOSE): State.FAILED,
    (State.SUCCEEDED, On.PARK): State.FROZEN,
    (State.FAILED, On.RETRY): State.WAITING,
    (State.FROZEN, On.FAILURE): State.FAILED,
    (State.WAITING, On.FAILURE): State.FAILED,
}

PENDING: Final = frozenset({State.FROZEN, State.WAITING, State.IN_PROGRESS})
"""States a pair may still succeed from without being tried again."""


def pair_priority(controlling: int, controlled: int) -> int:
    """Priority of a candidate pair from its candidates' priorities (RFC 8445 §6.1.2.3)."""
    g, d = controlling, controlled
    return (min(g, d) << 32) + 2 * max(g, d) + (g > d)


@dataclass(frozen=True, slots=True)
class PairInfo:
    """What an agent knows of one pair at one moment. ``rtt`` is seconds, None until measured.

    ``local`` is the candidate the peer sees us at, once a check has told. ``nominated`` means the
    controlling side chose the pair at some time, ``selected`` that it is the one in use now.
    ``reason`` says in a few words why the pair does not work, empty when it does or nobody knows yet.
    """

    id: PairId
    local: Candidate
    remote: Candidate
    state: State
    nominated: bool
    selected: bool
    rtt: float | None
    priority: int
    reason: str = ""
    suspect: bool = False
    """It worked, and several checks in a row went unanswered since."""

    @property
    def relayed(self) -> bool:
        """True when a relay that we know of carries the pair, ours or the peer's."""
        return CandidateType.RELAYED in (self.local.type, self.remote.type)


@dataclass(slots=True, eq=False)
class Traffic:
    """What is counted on a pair, for its statistics; times are seconds of the agent's clock."""

    packets_sent: int = 0
    packets_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    sent_at: float | None = None
    received_at: float | None = None
    total_rtt: float = 0.0
    last_rtt: float | None = None
    requests_received: int = 0
    requests_sent: int = 0
    responses_received: int = 0
    responses_sent: int = 0
    consent_requests_sent: int = 0


@dataclass(slots=True, eq=False)
class CandidatePair:
    """A pair in a checklist: the machine behind a :class:`PairInfo`."""

    id: PairId
    local: Candidate
    remote: Candidate
    base: Address
    priority: int = 0
    state: State = State.FROZEN
    reflexive: Candidate | None = None
    """The local candidate the peer saw us at: the valid pair's (RFC 8445 §7.2.5.3.2)."""
    nominated: bool = False
    nomination_pending: bool = False
    """The controlling side nominated the pair before our own check of it succeeded."""
    rtt: float | None = None
    validated_at: float | None = None
    confirmed_at: float = 0.0
    """When a verified response last came back on it."""
    misses: int = 0
    """Consent or liveness checks in a row without a response."""
    heard_at: float = float("-inf")
    """When data or an authentic check last came in on it."""
    suspect: bool = False
    """Several checks in a row went unanswered; consent has not expired yet."""
    demotions: int = 0
    """How often it failed while it was selected."""
    unanswered_since: float | None = None
    """When data was first sent on it after the last time anything came in."""
    asked_at: float | None = None
    """When the consent check was sent that has no response yet."""
    check_at: float | None = None
    """When the next consent check is due."""
    parked: bool = False
    """Left in reserve: no checks until it is needed."""
    heard_id: bytes = b""
    """Transaction of the peer's last authentic check on it, to tell a retransmission from a new one."""
    nomination_id: bytes = b""
    """Transaction of the last nomination by the peer, to tell a retransmission from a new one."""
    failures: int = 0
    retry_at: float | None = None
    traffic: Traffic = field(default_factory=Traffic)
    reason: str = ""
    path: Path = field(init=False)
    relayed: bool = field(init=False)

    def __post_init__(self) -> None:
        self.path = Path(self.base, self.remote.address)
        self.note_types()

    def note_types(self) -> None:
        """Recompute what follows from the candidates' types, after one was replaced."""
        self.relayed = CandidateType.RELAYED in (self.local.type, self.remote.type)

    @property
    def foundation(self) -> tuple[str, str]:
        """The pair's foundation: those of its two candidates (RFC 8445 §6.1.2.6)."""
        return (self.local.foundation, self.remote.foundation)

    @property
    def valid(self) -> bool:
        """True when data may be sent and taken on the pair."""
        return self.state is State.SUCCEEDED

    def on(self, event: On) -> None:
        """Apply one row of :data:`PAIR_TRANSITIONS`; LocalProtocolError when there is none."""
        try:
            self.state = PAIR_TRANSITIONS[self.state, event]
        except KeyError:
            raise LocalProtocolError(f"pair {self.id}: {event.value} in state {self.state.value}") from None

    def info(self, *, selected: bool) -> PairInfo:
        """A snapshot for the application."""
        return PairInfo(
            id=self.id,
            local=self.reflexive or self.local,
            remote=self.remote,
            state=self.state,
            nominated=self.nominated,
            selected=selected,
            rtt=self.rtt,
            priority=self.priority,
            reason=self.reason,
            suspect=self.suspect,
        )
