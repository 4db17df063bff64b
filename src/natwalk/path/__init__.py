"""All paths to one peer: start on the first that works, move to the best, notice death, repair."""

from natwalk.path.events import (
    CheckResult,
    GatheringTrouble,
    LocalCandidate,
    LocalCandidatesEnd,
    LocalDescription,
    MappingKnown,
    NoPath,
    PathChanged,
    PathEvent,
    PathInfo,
    PathKind,
    PathLost,
    PathReady,
    Received,
    RelayLinkReleased,
    RelayLinkWanted,
    SocketsReleased,
    SocketsWanted,
)
from natwalk.path.explain import MappingView
from natwalk.path.manager import PathManager

__all__ = [
    "CheckResult",
    "GatheringTrouble",
    "LocalCandidate",
    "LocalCandidatesEnd",
    "LocalDescription",
    "MappingKnown",
    "MappingView",
    "NoPath",
    "PathChanged",
    "PathEvent",
    "PathInfo",
    "PathKind",
    "PathLost",
    "PathManager",
    "PathReady",
    "Received",
    "RelayLinkReleased",
    "RelayLinkWanted",
    "SocketsReleased",
    "SocketsWanted",
]
