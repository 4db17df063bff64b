"""What crosses a middlebox: packets in, translated packets or drops with a reason out.

A packet carries what a NAT looks at and nothing else. Where ICMP has no ports, its identifier takes their
place (RFC 5508 §3.1): an echo request has it in the source, with port 0 in the destination; a reply the other
way round. An ICMP error has port 0 on both sides and the packet it is about in :attr:`Icmp.about`.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final, NamedTuple, Protocol

from natwalk.core import Address

TTL: Final = 64
"""Hops a packet may take if its sender says nothing else."""

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10


class IpProtocol(IntEnum):
    """What an IP packet carries, by the numbers of IPv4. ICMP stands for that of the packet's IP version."""

    ICMP = 1
    TCP = 6
    UDP = 17


class Segment(NamedTuple):
    """What a middlebox looks at in a TCP segment: the flags (``SYN | ACK``…) and, for resets, the numbers."""

    flags: int
    seq: int = 0
    ack: int = 0


class IcmpKind(Enum):
    """What an ICMP message says, whichever IP version says it."""

    ECHO_REQUEST = "echo request"
    ECHO_REPLY = "echo reply"
    NET_UNREACHABLE = "network unreachable"
    HOST_UNREACHABLE = "host unreachable"
    PROTOCOL_UNREACHABLE = "protocol unreachable"
    PORT_UNREACHABLE = "port unreachable"
    PACKET_TOO_BIG = "packet too big"
    ADMIN_PROHIBITED = "administratively prohibited"
    TIME_EXCEEDED = "time exceeded"
    PARAMETER_PROBLEM = "parameter problem"


class Icmp(NamedTuple):
    """An ICMP message: an echo, or an error ``about`` a packet; ``mtu`` in bytes with PACKET_TOO_BIG."""

    kind: IcmpKind
    about: Packet | None = None
    mtu: int = 0


HEADERS: Final = {
    IpProtocol.ICMP: 8,
    IpProtocol.TCP: 20,
    IpProtocol.UDP: 8,
}
"""Bytes of a header without options."""


class Packet(NamedTuple):
    """One packet: what a middlebox may rewrite, and the payload it may not. UDP unless it says otherwise."""

    source: Address
    destination: Address
    payload: bytes
    protocol: IpProtocol = IpProtocol.UDP
    ttl: int = TTL
    tcp: Segment | None = None
    """Of a TCP segment."""
    icmp: Icmp | None = None
    """Of an ICMP message."""

    @property
    def size(self) -> int:
        """Bytes of the whole IP packet, without options or extension headers."""
        ip = 40 if ":" in self.destination.host else 20
        return ip + HEADERS[self.protocol] + len(self.payload)


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
    NO_ADDRESS = "no free address"
    WRONG_FAMILY = "address family not translated"
    UDP_BLOCKED = "UDP blocked"
    TCP_BLOCKED = "TCP blocked"
    ICMP_BLOCKED = "ICMP blocked"
    PORT_BLOCKED = "port blocked"
    PORTAL = "not signed in at the portal"
    SCRUBBED = "data scrubbed"
    TOO_LARGE = "too large"
    TTL_EXPIRED = "TTL expired"
    NO_TCP_SESSION = "no TCP connection to this segment"
    UNSOLICITED_SYN = "unsolicited SYN"
    SIMULTANEOUS_OPEN = "simultaneous open not supported"


class Translation(NamedTuple):
    """A packet that goes on, as rewritten, on that side."""

    packet: Packet
    side: Side


class Dropped(NamedTuple):
    """A packet that goes no further; ``answer``, if any, is to be sent back to the side it came from."""

    reason: DropReason
    answer: Packet | None = None


Verdict = Translation | Dropped


class Middlebox(Protocol):
    """What a router asks about every packet that crosses it: a NAT or a firewall.

    It is the router as well: a packet that goes on has one hop less to go. ``now`` is monotonic seconds,
    never earlier than the one before.
    """

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet that came from the internal side."""

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Judge a packet that came from the external side."""

    def reset(self, now: float) -> None:
        """Lose all state, as a reboot does."""

    def next_answer(self) -> float | None:
        """When :meth:`answers` next has something to send; None when nothing is held back."""

    def answers(self, now: float) -> list[Translation]:
        """What the box sends of its own accord by ``now``: answers it held back until their time."""


def icmp_error(kind: IcmpKind, about: Packet, source: str, mtu: int = 0) -> Packet | None:
    """The ICMP error of the router at ``source`` to the sender of ``about``.

    None when ``about`` is an ICMP error itself: those are never answered (RFC 1122 §3.2.2).
    """
    if about.icmp is not None and about.icmp.about is not None:
        return None
    return Packet(
        Address(source, 0),
        Address(about.source.host, 0),
        b"",
        IpProtocol.ICMP,
        TTL,
        None,
        Icmp(kind, about, mtu),
    )


def reset_to(about: Packet) -> Packet | None:
    """The RST a host without such a connection answers ``about`` with (RFC 9293 §3.5.2); None to an RST."""
    segment = about.tcp
    if segment is None or segment.flags & RST:
        return None
    if segment.flags & ACK:
        answer = Segment(RST, segment.ack)
    else:
        length = len(about.payload) + bool(segment.flags & SYN) + bool(segment.flags & FIN)
        answer = Segment(RST | ACK, 0, (segment.seq + length) & 0xFFFFFFFF)
    return Packet(about.destination, about.source, b"", IpProtocol.TCP, TTL, answer)
