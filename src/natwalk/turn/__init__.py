"""TURN (RFC 8656): relaying through a server, both ends of it."""

from natwalk.turn.client import TurnClient
from natwalk.turn.client_events import (
    Allocated,
    AllocationFailed,
    AllocationLost,
    Closed,
    PeerData,
    PermissionDenied,
    TurnClientEvent,
)
from natwalk.turn.config import OAuthKey, TurnConfig, TurnLimits
from natwalk.turn.credentials import rest_credentials
from natwalk.turn.policy import Denial, PeerPolicy
from natwalk.turn.server import TurnServer, TurnStats
from natwalk.turn.server_events import (
    AllocationCreated,
    AllocationEnded,
    ClientReleased,
    ConnectionJoined,
    ConnectionReleased,
    ConnectWanted,
    Counters,
    EndReason,
    FlowAdded,
    FlowRemoved,
    RelayReleased,
    RelayWanted,
    TurnServerEvent,
)

__all__ = [
    "Allocated",
    "AllocationCreated",
    "AllocationEnded",
    "AllocationFailed",
    "AllocationLost",
    "ClientReleased",
    "Closed",
    "ConnectWanted",
    "ConnectionJoined",
    "ConnectionReleased",
    "Counters",
    "Denial",
    "EndReason",
    "FlowAdded",
    "FlowRemoved",
    "OAuthKey",
    "PeerData",
    "PeerPolicy",
    "PermissionDenied",
    "RelayReleased",
    "RelayWanted",
    "TurnClient",
    "TurnClientEvent",
    "TurnConfig",
    "TurnLimits",
    "TurnServer",
    "TurnServerEvent",
    "TurnStats",
    "rest_credentials",
]
