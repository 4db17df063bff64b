"""NAT64: IPv6 inside, IPv4 outside (RFC 6146), and the addresses that stand for IPv4 ones (RFC 6052)."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from natwalk.core import Address, Drops, RandomBytes
from natwalk.nat.box_config import WELL_KNOWN_PREFIX, Nat64Config
from natwalk.nat.engine import Nat
from natwalk.nat.packet import Dropped, DropReason, IcmpKind, Packet, Side, Translation, Verdict
from natwalk.nat.renaming import with_destination, with_source

_NOT_GLOBAL: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
"""What the well-known prefix must not be used with (RFC 6052 §3.1); the documentation's ranges may."""

MTU_DIFFERENCE: Final = 20
"""Bytes an IPv6 header is longer."""


def embed(host: str, prefix: str) -> str:
    """The IPv6 address that stands for the IPv4 address ``host`` under ``prefix`` (RFC 6052 §2.2)."""
    network = _network(prefix)
    packed = bytearray(network.network_address.packed)
    for at, octet in zip(_octets(network), IPv4Address(host).packed, strict=True):
        packed[at] = octet
    return Address(str(IPv6Address(bytes(packed))), 0).host


def extract(host: str, prefix: str) -> str | None:
    """The IPv4 address that ``host`` stands for; None when it is none of ``prefix``'s."""
    network = _network(prefix)
    ip = IPv6Address(host.partition("%")[0])
    if ip not in network or ip.packed[8]:
        return None
    return str(IPv4Address(bytes(ip.packed[at] for at in _octets(network))))


class Nat64:
    """Translates between IPv6 hosts inside and IPv4 hosts outside (RFC 6146 §3).

    Inside, IPv4 hosts have addresses under the prefix of ``config``; hairpinning is by those too
    (RFC 6146 §3.8). Packets change nothing but addresses, ports and hops here: the headers are the business
    of :mod:`natwalk.nat.wire`.
    """

    def __init__(self, config: Nat64Config, *, random_bytes: RandomBytes) -> None:
        self.config = config
        self.nat = Nat(config.nat, random_bytes=random_bytes, internal_version=6)

    @property
    def drops(self) -> Drops:
        """Why packets went no further."""
        return self.nat.drops

    def outbound(self, packet: Packet, now: float) -> Verdict:
        """Translate an IPv6 packet to an address under the prefix."""
        destination = packet.destination.host
        host = extract(destination, self.config.prefix) if ":" in destination else None
        if host is None:
            return self._drop(DropReason.WRONG_FAMILY)
        if self.config.prefix == WELL_KNOWN_PREFIX and any(IPv4Address(host) in n for n in _NOT_GLOBAL):
            return self._drop(DropReason.NOT_OURS)
        outside = with_destination(_with_mtu(packet, -MTU_DIFFERENCE), self._outside)
        verdict = self.nat.outbound(outside, now)
        if isinstance(verdict, Translation) and verdict.side is Side.EXTERNAL:
            return verdict
        return self._seen_inside(verdict)

    def inbound(self, packet: Packet, now: float) -> Verdict:
        """Translate an IPv4 packet to one of our addresses."""
        verdict = self.nat.inbound(packet, now)
        return self._seen_inside(verdict) if isinstance(verdict, Translation) else verdict

    def reset(self, now: float) -> None:
        """Lose every mapping, as a reboot does."""
        self.nat.reset(now)

    def next_answer(self) -> float | None:
        """When the NAT has an answer that it held back."""
        return self.nat.next_answer()

    def answers(self, now: float) -> list[Translation]:
        """Answers that were held back until ``now``: all go outside."""
        return self.nat.answers(now)

    def _seen_inside(self, verdict: Verdict) -> Verdict:
        if isinstance(verdict, Translation):
            packet = with_source(verdict.packet, self._inside)
            return verdict._replace(packet=_with_mtu(packet, MTU_DIFFERENCE))
        if verdict.answer is None:
            return verdict
        return verdict._replace(answer=with_source(verdict.answer, self._inside))

    def _inside(self, host: str) -> str:
        return host if ":" in host else embed(host, self.config.prefix)

    def _outside(self, host: str) -> str:
        return extract(host, self.config.prefix) or host

    def _drop(self, reason: DropReason) -> Dropped:
        self.drops.add(reason.value)
        return Dropped(reason)


def _with_mtu(packet: Packet, difference: int) -> Packet:
    """An error that says how large packets may be says so for the other header (RFC 7915 §4.2, §5.2)."""
    icmp = packet.icmp
    if icmp is None or icmp.kind is not IcmpKind.PACKET_TOO_BIG or not icmp.mtu:
        return packet
    return packet._replace(icmp=icmp._replace(mtu=max(0, icmp.mtu + difference)))


@lru_cache(maxsize=64)
def _network(prefix: str) -> IPv6Network:
    return IPv6Network(prefix)


def _octets(network: IPv6Network) -> list[int]:
    """Where the four bytes are: after the prefix, around byte 8."""
    return [at for at in range(network.prefixlen // 8, 16) if at != 8 or network.prefixlen == 96][:4]
