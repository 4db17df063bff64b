"""What an agent tells its application."""

from __future__ import annotations

from dataclasses import dataclass

from natwalk.core import Address, IPAddress, Path
from natwalk.ice.candidate import Candidate
from natwalk.ice.config import TurnServerAddress
from natwalk.ice.pair import PairId, PairInfo


@dataclass(frozen=True, slots=True)
class CandidateGathered:
    """A local candidate to send to the peer, at once if it trickles (RFC 8838 §9)."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class NamePublished:
    """A candidate goes by ``name``: answer for it with ``ip`` on the local network (RFC 6762 §6)."""

    name: str
    ip: IPAddress


@dataclass(frozen=True, slots=True)
class NameWanted:
    """The peer goes by ``name``: look it up on the local network, and tell ``IceAgent.name_resolved``."""

    name: str


@dataclass(frozen=True, slots=True)
class StreamWanted:
    """Connect to a TURN server by its transport; then ``IceAgent.stream_opened`` or ``stream_failed``."""

    server: TurnServerAddress


@dataclass(frozen=True, slots=True)
class StreamReleased:
    """The connection at ``path`` carries nothing more: close it."""

    path: Path


@dataclass(frozen=True, slots=True)
class GatheringFinished:
    """No more local candidates for now: tell the peer end-of-candidates (RFC 8838 §13)."""


@dataclass(frozen=True, slots=True)
class GatheringProblem:
    """A server, or a local address when ``server`` is None, gave no candidate; ``reason`` says why."""

    server: Address | None
    reason: str


@dataclass(frozen=True, slots=True)
class MappingLearned:
    """``server`` sees our socket ``base`` at ``mapped``: two servers show how a NAT maps (RFC 4787 §4.1).

    Comes once for each new answer, whether a candidate follows from it or not.
    """

    base: Address
    server: Address
    mapped: Address


@dataclass(frozen=True, slots=True)
class PairValidated:
    """A check succeeded: data may flow on the pair, before and after any nomination."""

    info: PairInfo


@dataclass(frozen=True, slots=True)
class PairFailed:
    """A pair that never worked was given up, for now; ``reason`` is a short phrase for people."""

    info: PairInfo
    reason: str


@dataclass(frozen=True, slots=True)
class PairSelected:
    """The pair both sides use from now on; comes again whenever the choice changes."""

    info: PairInfo


@dataclass(frozen=True, slots=True)
class PairLost:
    """A valid pair is valid no more: consent expired, its relay went, or it is not kept alive."""

    info: PairInfo
    reason: str


@dataclass(frozen=True, slots=True)
class DataReceived:
    """An application datagram from a validated pair."""

    data: bytes
    pair_id: PairId


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Whether a check padded to ``size`` bytes of UDP payload was answered; ``rtt`` in seconds if so."""

    pair_id: PairId
    size: int
    ok: bool
    rtt: float | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """No pair is valid any more. The agent goes on probing; :class:`IceFailed` says when it gives up."""

    reason: str


@dataclass(frozen=True, slots=True)
class IceFailed:
    """No pair works and the agent has stopped; ``detail`` has a line for each pair tried."""

    reason: str
    detail: str


IceEvent = (
    CandidateGathered
    | NamePublished
    | NameWanted
    | StreamWanted
    | StreamReleased
    | GatheringFinished
    | GatheringProblem
    | MappingLearned
    | PairValidated
    | PairFailed
    | PairSelected
    | PairLost
    | DataReceived
    | ProbeResult
    | Disconnected
    | IceFailed
)
