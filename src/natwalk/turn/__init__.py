"""TURN (RFC 8656): relaying through a server, both ends of it."""

from natwalk.turn.client import TurnClient
from natwalk.turn.client_auth import Credentials, OAuthCredentials, PasswordCredentials
from natwalk.turn.client_connections import (
    ConnectionBind,
    ConnectionBindEvent,
    ConnectionBindFailed,
    ConnectionBound,
)
from natwalk.turn.client_events import (
    Allocated,
    AllocationFailed,
    AllocationLost,
    ChannelFailed,
    Closed,
    ConnectFailed,
    Migrated,
    MigrationFailed,
    PeerConnected,
    PeerData,
    PeerUnreachable,
    PermissionDenied,
    PermissionRefreshFailed,
    RefreshFailed,
    Stranded,
    TurnClientEvent,
)
from natwalk.turn.client_options import AllocationOptions
from natwalk.turn.client_redirects import Redirects
from natwalk.turn.config import OAuthKey, TurnConfig, TurnLimits
from natwalk.turn.credentials import rest_credentials
from natwalk.turn.oauth import oauth_token
from natwalk.turn.policy import Denial, PeerPolicy
from natwalk.turn.server import TurnServer
from natwalk.turn.server_events import (
    AllocationCreated,
    AllocationEnded,
    AllocationSummary,
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
from natwalk.turn.stats import TurnStats

__all__ = [
    "Allocated",
    "AllocationCreated",
    "AllocationEnded",
    "AllocationFailed",
    "AllocationLost",
    "AllocationOptions",
    "AllocationSummary",
    "ChannelFailed",
    "ClientReleased",
    "Closed",
    "ConnectFailed",
    "ConnectWanted",
    "ConnectionBind",
    "ConnectionBindEvent",
    "ConnectionBindFailed",
    "ConnectionBound",
    "ConnectionJoined",
    "ConnectionReleased",
    "Counters",
    "Credentials",
    "Denial",
    "EndReason",
    "FlowAdded",
    "FlowRemoved",
    "Migrated",
    "MigrationFailed",
    "OAuthCredentials",
    "OAuthKey",
    "PasswordCredentials",
    "PeerConnected",
    "PeerData",
    "PeerPolicy",
    "PeerUnreachable",
    "PermissionDenied",
    "PermissionRefreshFailed",
    "Redirects",
    "RefreshFailed",
    "RelayReleased",
    "RelayWanted",
    "Stranded",
    "TurnClient",
    "TurnClientEvent",
    "TurnConfig",
    "TurnLimits",
    "TurnServer",
    "TurnServerEvent",
    "TurnStats",
    "oauth_token",
    "rest_credentials",
]
