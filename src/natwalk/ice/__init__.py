"""ICE (RFC 8445): candidates, checks, nomination, consent; the agent as a core without sockets."""

from natwalk.ice.address_filter import AddressFilter
from natwalk.ice.agent import IceAgent
from natwalk.ice.candidate import (
    Candidate,
    CandidateType,
    NamedCandidate,
    candidate_priority,
    read_candidate,
)
from natwalk.ice.config import HostCandidates, IceConfig, TransportPolicy, TurnServerAddress
from natwalk.ice.events import (
    CandidateGathered,
    DataReceived,
    Disconnected,
    GatheringFinished,
    GatheringProblem,
    IceEvent,
    IceFailed,
    MappingLearned,
    NamePublished,
    NameWanted,
    PairFailed,
    PairLost,
    PairSelected,
    PairValidated,
    ProbeResult,
)
from natwalk.ice.mdns import Mdns, NameResolved
from natwalk.ice.pair import PairId, PairInfo, State, pair_priority
from natwalk.ice.parameters import IceParameters

__all__ = [
    "AddressFilter",
    "Candidate",
    "CandidateGathered",
    "CandidateType",
    "DataReceived",
    "Disconnected",
    "GatheringFinished",
    "GatheringProblem",
    "HostCandidates",
    "IceAgent",
    "IceConfig",
    "IceEvent",
    "IceFailed",
    "IceParameters",
    "MappingLearned",
    "Mdns",
    "NamePublished",
    "NameResolved",
    "NameWanted",
    "NamedCandidate",
    "PairFailed",
    "PairId",
    "PairInfo",
    "PairLost",
    "PairSelected",
    "PairValidated",
    "ProbeResult",
    "State",
    "TransportPolicy",
    "TurnServerAddress",
    "candidate_priority",
    "pair_priority",
    "read_candidate",
]
