"""ICE (RFC 8445): candidates, checks, nomination, consent; the agent as a core without sockets."""

from natwalk.ice.agent import IceAgent
from natwalk.ice.candidate import Candidate, CandidateType, candidate_priority
from natwalk.ice.config import IceConfig, TransportPolicy, TurnServerAddress
from natwalk.ice.events import (
    CandidateGathered,
    DataReceived,
    Disconnected,
    GatheringFinished,
    GatheringProblem,
    IceEvent,
    IceFailed,
    MappingLearned,
    PairFailed,
    PairLost,
    PairSelected,
    PairValidated,
    ProbeResult,
)
from natwalk.ice.pair import PairId, PairInfo, State, pair_priority
from natwalk.ice.parameters import IceParameters

__all__ = [
    "Candidate",
    "CandidateGathered",
    "CandidateType",
    "DataReceived",
    "Disconnected",
    "GatheringFinished",
    "GatheringProblem",
    "IceAgent",
    "IceConfig",
    "IceEvent",
    "IceFailed",
    "IceParameters",
    "MappingLearned",
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
]
