"""Changing the host at one end of a packet, also in what an ICMP error quotes."""

from __future__ import annotations

from collections.abc import Callable

from natwalk.core import Address
from natwalk.nat.packet import Packet

Rename = Callable[[str], str]
"""Takes and returns the canonical text of an IP address."""


def with_source(packet: Packet, rename: Rename) -> Packet:
    """``packet`` from elsewhere; the packet an error quotes went the other way, so to elsewhere there."""
    icmp = packet.icmp
    if icmp is not None and icmp.about is not None:
        icmp = icmp._replace(about=with_destination(icmp.about, rename))
    return packet._replace(source=_renamed(packet.source, rename), icmp=icmp)


def with_destination(packet: Packet, rename: Rename) -> Packet:
    """``packet`` to elsewhere; what an error quotes came from there."""
    icmp = packet.icmp
    if icmp is not None and icmp.about is not None:
        icmp = icmp._replace(about=with_source(icmp.about, rename))
    return packet._replace(destination=_renamed(packet.destination, rename), icmp=icmp)


def _renamed(address: Address, rename: Rename) -> Address:
    host = rename(address.host)
    return address if host == address.host else Address(host, address.port)
