"""What a path tells its owner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from natwalk.core import Address, Path
from natwalk.ice import Candidate, IceParameters, PairInfo, TurnServerAddress
from natwalk.path.explain import MappingView


class PathKind(Enum):
    """Whether application bytes go straight to the peer or through a relay."""

    DIRECT = "direct"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class PathInfo:
    """The path in use: which candidates, how good, and why this one."""

    kind: PathKind
    local: Address
    remote: Address
    local_type: str
    remote_type: str
    rtt: float | None
    """Round trip in seconds, once a check has measured it."""
    mtu: int
    """Largest UDP payload, in bytes, known to pass."""
    reason: str
    """Why this path: one clause a person can read."""


@dataclass(frozen=True, slots=True)
class SocketsWanted:
    """Bind sockets for ``generation``; answer with ``add_local_address`` and ``end_of_local_addresses``."""

    generation: int


@dataclass(frozen=True, slots=True)
class SocketsReleased:
    """The sockets of ``generation`` carry nothing any more: close them."""

    generation: int


@dataclass(frozen=True, slots=True)
class RelayLinkWanted:
    """Connect to a TURN server by its transport; then ``relay_link_opened`` or ``relay_link_failed``."""

    generation: int
    server: TurnServerAddress


@dataclass(frozen=True, slots=True)
class RelayLinkReleased:
    """The connection at ``path`` carries nothing any more: close it."""

    path: Path


@dataclass(frozen=True, slots=True)
class LocalDescription:
    """Tell the peer: ICE credentials of ``generation``."""

    generation: int
    parameters: IceParameters


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """Tell the peer: a candidate of ``generation`` (trickle, RFC 8838)."""

    generation: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class LocalCandidatesEnd:
    """Tell the peer: no more candidates in ``generation`` (RFC 8838 §13)."""

    generation: int


@dataclass(frozen=True, slots=True)
class MappingKnown:
    """What this side now knows of its own NAT's mapping behaviour (RFC 4787 §4.1); tell the peer."""

    view: MappingView


@dataclass(frozen=True, slots=True)
class GatheringTrouble:
    """A STUN or TURN server did not help, and why."""

    server: Address | None
    reason: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A candidate pair was validated or failed."""

    pair: PairInfo
    ok: bool


@dataclass(frozen=True, slots=True)
class PathReady:
    """The first path carries data; its MTU is as known as it will be for now."""

    info: PathInfo


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Data now takes another path, or what is known of it changed."""

    info: PathInfo


@dataclass(frozen=True, slots=True)
class PathLost:
    """No path carries data; a repair has begun."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoPath:
    """There is no path to the peer, and natwalk has stopped looking."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram of the application, from a validated pair."""

    data: bytes


PathEvent = (
    SocketsWanted
    | SocketsReleased
    | RelayLinkWanted
    | RelayLinkReleased
    | LocalDescription
    | LocalCandidate
    | LocalCandidatesEnd
    | MappingKnown
    | GatheringTrouble
    | CheckResult
    | PathReady
    | PathChanged
    | PathLost
    | NoPath
    | Received
)
