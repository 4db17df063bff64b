"""What crosses a middlebox: packets in, translated packets or drops with a reason out."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from natwalk.core import Address


class Packet(NamedTuple):
    """One UDP packet: the two transport addresses a middlebox may rewrite, and the payload it may not."""

    source: Address
    destination: Address
    payload: bytes


class Side(Enum):
    """On which side of a middlebox a packet leaves."""

    INTERNAL = "internal"
    EXTERNAL = "external"


class DropReason(Enum):
    """Why a middlebox let a packet go no further."""

    NO_MAPPING = "no mapping for this port"
    FILTERED = "filtered"
    NOT_OURS = "not an address of this box"
    NO_HAIRPIN = "hairpinning not supported"
    TABLE_FULL = "table full"
    SUBSCRIBER_FULL = "subscriber's share of the table full"
    NO_PORT = "no free port"
    WRONG_FAMILY = "address family not translated"
    UDP_BLOCKED = "UDP blocked"


class Translation(NamedTuple):
    """A packet that goes on, as rewritten, on that side."""

    packet: Packet
    side: Side


class Dropped(NamedTuple):
    """A packet that goes no further."""

    reason: DropReason


Verdict = Translation | Dropped


class Middlebox(Protocol):
    """What a router asks about every packet that crosses it: a NAT or a firewall.

    ``now`` is monotonic seconds, never earlier than the one before.
    """

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet that came from the internal side."""

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet that came from the external side."""

    def reset(self, now: float) -> None:
        """Lose all state, as a reboot does."""
