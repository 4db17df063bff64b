"""Where everything is: the addresses of the lab's internet and of its two sites.

Documentation ranges (RFC 5737) outside, private (RFC 1918) and shared (RFC 6598) ones inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from types import MappingProxyType
from typing import Final

SERVER_NET: Final = IPv4Network("203.0.113.0/24")
SERVER_HOSTS: Final = (10, 11)
"""The server has two addresses, as measuring a NAT's behaviour needs (RFC 5780 §6)."""


@dataclass(frozen=True, slots=True)
class Site:
    """The networks of one side, from the internet inwards; in each the gateway is host 1."""

    name: str
    public: IPv4Network
    carrier: IPv4Network
    lan: IPv4Network
    ports: str
    """The ephemeral ports of its hosts, apart from the other side's: two hosts never want one public port."""


SITES: Final[Mapping[str, Site]] = MappingProxyType(
    {
        "a": Site(
            name="a",
            public=IPv4Network("198.51.100.0/24"),
            carrier=IPv4Network("100.64.1.0/24"),
            lan=IPv4Network("192.168.1.0/24"),
            ports="32768 45055",
        ),
        "b": Site(
            name="b",
            public=IPv4Network("192.0.2.0/24"),
            carrier=IPv4Network("100.64.2.0/24"),
            lan=IPv4Network("10.0.0.0/24"),
            ports="45056 60999",
        ),
    }
)


def host_in(network: IPv4Network, number: int) -> str:
    """Host ``number`` of ``network``, as text."""
    return str(network[number])
