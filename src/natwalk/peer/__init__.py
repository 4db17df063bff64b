"""One authenticated connection to one peer, composed of mailbox, path and QUIC; a core like its parts."""

from natwalk.peer.config import PeerConfig, Role
from natwalk.peer.connection import APP_ID, PeerConnection
from natwalk.peer.events import (
    CandidateSeen,
    CheckSeen,
    CodeReady,
    Connected,
    Ended,
    Failure,
    NatSeen,
    PathBroken,
    PathChosen,
    PeerArrived,
    PeerEvent,
    PeerUnavailable,
    ResumeToken,
    ServerTrouble,
)
from natwalk.peer.report import Report, path_report, report

__all__ = [
    "APP_ID",
    "CandidateSeen",
    "CheckSeen",
    "CodeReady",
    "Connected",
    "Ended",
    "Failure",
    "NatSeen",
    "PathBroken",
    "PathChosen",
    "PeerArrived",
    "PeerConfig",
    "PeerConnection",
    "PeerEvent",
    "PeerUnavailable",
    "Report",
    "ResumeToken",
    "Role",
    "ServerTrouble",
    "path_report",
    "report",
]
