"""Which mapping services a router offers to its LAN, and how badly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import ip_address, ip_network

from natwalk.core import Address


class ServiceQuirk(Enum):
    """How routers in the field get it wrong.

    Seen by NetBird and in Tailscale's issues 14344, 8364, 13745, 15223 and 10771.
    """

    ONLY_PERMANENT_LEASES = "only permanent leases"
    """UPnP: error 725 to a lease that ends."""
    REPLY_FROM_OTHER_PORT = "replies from another port"
    """NAT-PMP, PCP and SSDP answers come from a port that was not asked."""
    PRIVATE_EXTERNAL_ADDRESS = "external address is private"
    """It says an address of RFC 1918 that nobody outside can reach."""
    SAME_PORT_ONLY = "internal port must equal external port"
    """UPnP: error 724 to a mapping between different ports."""
    DEAD_SERVICES = "some services are not there"
    """UPnP: a second connection service is described whose control URL answers 404."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """What the mapping services of one router are told. Times are in seconds.

    ``address`` and ``network`` may stay empty in a preset; :meth:`at` fills them in. Raises ValueError when
    it asks the impossible.
    """

    nat_pmp: bool = False
    pcp: bool = False
    upnp: int = 0
    """Version of the Internet Gateway Device: 1, 2, or 0 for none."""
    address: str = ""
    """The router's on the LAN."""
    network: str = ""
    """The LAN, such as 192.168.1.0/24: who is not in it is not answered."""
    http_port: int = 5000
    """Where the descriptions and the control of UPnP are."""
    quirks: frozenset[ServiceQuirk] = frozenset()
    lowest_port: int = 1024
    """External ports below are not given out."""
    shortest_lease: float = 120.0
    longest_lease: float = 86_400.0
    """Leases asked for are cut to these; by PCP and NAT-PMP the client is told."""
    permanent_lease: float = 604_800.0
    """What a lease of 0 means to UPnP IGD 2 (a week); in version 1 it really has no end."""
    mappings_per_client: int = 64
    rate: float = 20.0
    """Requests a second of one client that are served, in the long run."""
    burst: int = 40
    search_rate: float = 10.0
    """Answers to SSDP searches a second, all clients together."""
    uuid: str = "5e1fa7c0-0000-4000-8000-6e6174776c6b"

    def __post_init__(self) -> None:
        if self.upnp not in (0, 1, 2):
            raise ValueError(f"there is no version {self.upnp} of IGD")
        if not 1 <= self.http_port <= 65535 or not 1 <= self.lowest_port <= 65535:
            raise ValueError("a port must be between 1 and 65535")
        if not 0 < self.shortest_lease <= self.longest_lease:
            raise ValueError(f"leases of {self.shortest_lease} to {self.longest_lease} s cannot be")
        if self.mappings_per_client <= 0 or self.rate <= 0 or self.burst <= 0 or self.search_rate <= 0:
            raise ValueError("limits must be positive")
        if self.address:
            Address(self.address, 0)
            if ip_address(self.address) not in ip_network(self.network):
                raise ValueError(f"{self.address} is not in {self.network}")

    def at(self, address: str, network: str) -> GatewayConfig:
        """The same services at ``address`` of the LAN ``network``."""
        return replace(self, address=address, network=network)
