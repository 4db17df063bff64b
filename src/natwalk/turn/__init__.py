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
from natwalk.turn.credentials import rest_credentials

__all__ = [
    "Allocated",
    "AllocationFailed",
    "AllocationLost",
    "Closed",
    "PeerData",
    "PermissionDenied",
    "TurnClient",
    "TurnClientEvent",
    "rest_credentials",
]
