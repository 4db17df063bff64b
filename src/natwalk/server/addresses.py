"""Which addresses this machine has, and which of them others would use."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

import ifaddr

from natwalk.core import IPAddress, Reach, reach

WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104
_MOST: Final = 64
_FAR_AWAY: Final = {4: "192.0.2.1", 6: "2001:db8::1"}


def interface_addresses() -> list[str]:
    """Every address of every interface that can be bound, but link-local ones, at most 64, loopback last.

    An IPv6 address cannot be bound before the machine knows that no other has it (RFC 4862 §5.4).
    """
    found: dict[IPAddress, None] = {}
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            ip = ip_address(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
            if reach(ip) is not Reach.LINK_LOCAL and _bindable(ip):
                found[ip] = None
    return [str(ip) for ip in sorted(found, key=lambda ip: reach(ip) is Reach.LOOPBACK)][:_MOST]


def default_listen() -> list[str]:
    """The wildcards of the IP versions this machine has."""
    return [host for host in WILDCARDS if _bindable(ip_address(host))]


def expand(listen: Iterable[str]) -> list[str]:
    """``listen`` with each wildcard replaced by every address that this machine has of its version.

    A socket bound to one address answers from that address; one bound to a wildcard may answer from
    another, and the client would not recognise the answer. A wildcard stays when there is no address.
    """
    expanded: dict[str, None] = {}
    for host in listen:
        version = ip_address(host).version
        hosts = [a for a in interface_addresses() if ip_address(a).version == version]
        for concrete in hosts if host in WILDCARDS and hosts else [host]:
            expanded[concrete] = None
    return list(expanded)


def default_route_address(version: int) -> str | None:
    """The address this machine uses towards the internet, or None without a route. Sends nothing."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_FAR_AWAY[version], 9))
            host: str = probe.getsockname()[0]
    except OSError:
        return None
    ip = ip_address(host.partition("%")[0])
    return None if reach(ip) is Reach.LINK_LOCAL or ip.is_unspecified else str(ip)


def default_relay_addresses(listen: Iterable[str]) -> list[str]:
    """One address of each IP version of ``listen`` for relays: towards the internet, else what there is."""
    chosen: list[str] = []
    hosts = list(listen)
    for version in (4, 6):
        mine = [host for host in hosts if ip_address(host).version == version]
        concrete = [host for host in mine if host not in WILDCARDS]
        if not mine:
            continue
        routed = default_route_address(version)
        if routed is not None and (routed in concrete or len(concrete) < len(mine)):
            chosen.append(routed)
        elif concrete:
            chosen.append(concrete[0])
    useful = [host for host in chosen if reach(ip_address(host)) is not Reach.LOOPBACK]
    return useful or chosen


def _bindable(ip: IPAddress) -> bool:
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True
