"""Peer addresses: in coturn an allowed entry wins over a denied one, in natwalk it is the other way.

So what is allowed is cut out of what is denied.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network, summarize_address_range
from typing import cast

from natwalk.core import IPAddress

Span = tuple[int, int, int]
"""IP version, first and last address as integers."""


def span(entry: str) -> Span:
    """The addresses of ``entry``: an address, a network or a range; raises ValueError."""
    first, dash, last = entry.partition("-")
    low: IPAddress
    high: IPAddress
    if dash:
        low, high = ip_address(first.strip()), ip_address(last.strip())
    else:
        network = ip_network(entry.strip())
        low, high = network.network_address, network.broadcast_address
    if low.version != high.version or int(low) > int(high):
        raise ValueError(f"{entry!r} is a range that does not go up")
    return low.version, int(low), int(high)


def without(denied: Iterable[Span], allowed: Iterable[Span]) -> list[Span]:
    """``denied`` with every address of ``allowed`` cut out, in the order given."""
    left = list(denied)
    for version, low, high in allowed:
        cut: list[Span] = []
        for each in left:
            if each[0] != version or high < each[1] or low > each[2]:
                cut.append(each)
                continue
            if each[1] < low:
                cut.append((version, each[1], low - 1))
            if high < each[2]:
                cut.append((version, high + 1, each[2]))
        left = cut
    return left


def text(each: Span) -> str:
    """How natwalk.toml says it: one network where it is one, else a range."""
    version, low, high = each
    kind = IPv6Address if version == 6 else IPv4Address
    networks = list(summarize_address_range(cast(IPv4Address, kind(low)), cast(IPv4Address, kind(high))))
    if len(networks) > 1:
        return f"{kind(low)}-{kind(high)}"
    return str(networks[0].network_address if low == high else networks[0])
