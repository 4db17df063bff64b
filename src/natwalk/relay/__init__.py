"""A relay for when nothing else passes: packets between peers by public key, over one TCP or TLS connection.

Client and server prove their keys to each other (:mod:`natwalk.relay.handshake`); then frames
(:mod:`natwalk.relay.frames`) carry packets that the relay can neither read nor change unnoticed, because the
peers encrypt them end to end.
"""

from natwalk.relay.client import RelayClient
from natwalk.relay.config import RelayClientConfig, RelayServerConfig
from natwalk.relay.events import (
    CloseWanted,
    ConnectWanted,
    DisconnectWanted,
    GoneReason,
    PacketReceived,
    PeerGone,
    RelayClientEvent,
    RelayLost,
    RelayReady,
    RelayRestarting,
    Standing,
)
from natwalk.relay.frames import FRAME_LIMIT, KEY_LENGTH, PACKET_LIMIT, FrameReader, FrameType, frame
from natwalk.relay.handshake import RefusalCode
from natwalk.relay.keys import RelayIdentity, is_usable
from natwalk.relay.link import RelayLink
from natwalk.relay.opening import Opening, OpeningRefused
from natwalk.relay.proxies import HttpConnect, ProxyCredentials, Socks5
from natwalk.relay.server import RelayServer, RelayStats
from natwalk.relay.upgrade import RelayUpgrade, wants_relay

__all__ = [
    "FRAME_LIMIT",
    "KEY_LENGTH",
    "PACKET_LIMIT",
    "CloseWanted",
    "ConnectWanted",
    "DisconnectWanted",
    "FrameReader",
    "FrameType",
    "GoneReason",
    "HttpConnect",
    "Opening",
    "OpeningRefused",
    "PacketReceived",
    "PeerGone",
    "ProxyCredentials",
    "RefusalCode",
    "RelayClient",
    "RelayClientConfig",
    "RelayClientEvent",
    "RelayIdentity",
    "RelayLink",
    "RelayLost",
    "RelayReady",
    "RelayRestarting",
    "RelayServer",
    "RelayServerConfig",
    "RelayStats",
    "RelayUpgrade",
    "Socks5",
    "Standing",
    "frame",
    "is_usable",
    "wants_relay",
]
