"""What a TURN server tells its driver, its data plane and its operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from natwalk.core import Address


@dataclass(frozen=True, slots=True)
class RelayWanted:
    """Bind a UDP socket to ``address``, then call ``relay_opened`` or ``relay_failed`` with ``token``."""

    address: Address
    token: int


@dataclass(frozen=True, slots=True)
class RelayReleased:
    """Close the socket bound to ``address``."""

    address: Address


@dataclass(frozen=True, slots=True)
class FlowAdded:
    """What ``client`` and ``listener`` exchange on ``channel`` goes between ``relay`` and ``peer``.

    A data plane may forward both ways without asking, until FlowRemoved.
    """

    client: Address
    listener: Address
    channel: int
    relay: Address
    peer: Address


@dataclass(frozen=True, slots=True)
class FlowRemoved:
    """A flow that was added may no longer be forwarded."""

    client: Address
    listener: Address
    channel: int
    relay: Address
    peer: Address


@dataclass(frozen=True, slots=True)
class AllocationCreated:
    """A client got a relayed address; ``lifetime`` is in seconds."""

    client: Address
    listener: Address
    username: str
    relay: Address
    lifetime: int


class EndReason(Enum):
    """Why an allocation ended."""

    EXPIRED = "expired"
    DELETED = "deleted"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Counters:
    """Application datagrams and bytes relayed, to the peers and from them."""

    packets_to_peers: int = 0
    bytes_to_peers: int = 0
    packets_from_peers: int = 0
    bytes_from_peers: int = 0


@dataclass(frozen=True, slots=True)
class AllocationEnded:
    """A relayed address was given back or taken away."""

    client: Address
    listener: Address
    username: str
    relay: Address
    reason: EndReason
    counters: Counters


TurnServerEvent = RelayWanted | RelayReleased | FlowAdded | FlowRemoved | AllocationCreated | AllocationEnded
