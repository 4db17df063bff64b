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
from natwalk.ice.description import IceDescription, candidate_from_json, candidate_to_json
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
    StreamReleased,
    StreamWanted,
)
from natwalk.ice.mdns import Mdns, NameResolved
from natwalk.ice.pair import PairId, PairInfo, State, pair_priority
from natwalk.ice.parameters import IceParameters
from natwalk.ice.stats import PairStats

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
    "IceDescription",
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
    "PairStats",
    "PairValidated",
    "ProbeResult",
    "State",
    "StreamReleased",
    "StreamWanted",
    "TransportPolicy",
    "TurnServerAddress",
    "candidate_from_json",
    "candidate_priority",
    "candidate_to_json",
    "pair_priority",
    "read_candidate",
]
