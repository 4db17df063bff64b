"""What middleboxes other than a port-translating NAT are told: firewalls, basic NAT, twice NAT, NAT64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Network
from typing import Final

from natwalk.core import Address
from natwalk.nat.config import FlowConfig, NatConfig

WELL_KNOWN_PREFIX: Final = "64:ff9b::/96"
"""RFC 6052 §2.1."""
LOCAL_USE_PREFIX: Final = "64:ff9b:1::/48"
"""RFC 8215 §5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalConfig:
    """A captive portal: until a host has signed in, only names, addresses and the portal work."""

    portal: Address
    """Its web server; connections to port 80 of anybody end up there."""
    open_udp_ports: frozenset[int] = frozenset({53, 67})
    lifetime: float = 86_400.0
    """Seconds from signing in to having to again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallConfig:
    """A firewall that translates nothing; ``udp`` says whether it lets UDP pass.

    Ports are those of the remote side. Without ``flow`` it keeps no state and lets everybody in. Raises
    ValueError when it asks the impossible.
    """

    udp: bool
    tcp: bool = True
    icmp: bool = True
    udp_ports: frozenset[int] | None = None
    """None: all."""
    tcp_ports: frozenset[int] | None = None
    flow: FlowConfig | None = None
    """Lets in only what belongs to flows from inside, filtered as this says (RFC 6092 §3)."""
    rejects: bool = False
    """What is refused on its way out is answered, by RST or ICMP, and not just dropped."""
    only_stun: bool = False
    """UDP that is not STUN vanishes on its way: pings pass, data does not."""
    max_packet: int | None = None
    """Bytes of the largest IP packet that passes; larger ones vanish."""
    portal: PortalConfig | None = None

    def __post_init__(self) -> None:
        if self.max_packet is not None and self.max_packet <= 0:
            raise ValueError(f"max_packet must be positive, not {self.max_packet}")
        for ports in (self.udp_ports, self.tcp_ports):
            if ports is not None and not all(1 <= port <= 65535 for port in ports):
                raise ValueError(f"ports {sorted(ports)} are not all between 1 and 65535")


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicNatConfig:
    """Addresses are translated and ports are not (RFC 3022 §2.1): static pairs, and a pool for the others."""

    static: tuple[tuple[str, str], ...] = ()
    """(internal, external), one to one and for ever."""
    pool: tuple[str, ...] = ()
    """External addresses lent to internal hosts, first come, first served."""
    idle_timeout: float = 86_400.0
    """Seconds without traffic after which a lent address is free again."""

    def __post_init__(self) -> None:
        if self.idle_timeout <= 0:
            raise ValueError(f"idle_timeout must be positive, not {self.idle_timeout}")
        for hosts in zip(*self.static, strict=True):
            if len(set(hosts)) < len(hosts):
                raise ValueError("a static address is paired twice")
        externals = [external for _, external in self.static] + list(self.pool)
        for host in (*externals, *(internal for internal, _ in self.static)):
            Address(host, 0)
        if len(set(externals)) < len(externals):
            raise ValueError("an external address is there twice")

    def at(self, *public_addresses: str) -> BasicNatConfig:
        """The same behaviour with these addresses in the pool."""
        return replace(self, pool=public_addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwiceNatConfig:
    """A NAT that renames the remote side as well, for networks whose addresses overlap (RFC 2663 §4.3)."""

    nat: NatConfig
    aliases: tuple[tuple[str, str], ...] = ()
    """(what inside calls a remote host, its real address)."""

    def __post_init__(self) -> None:
        for hosts in zip(*self.aliases, strict=True):
            if len({Address(host, 0).host for host in hosts}) < len(hosts):
                raise ValueError("an alias is there twice")

    def at(self, *public_addresses: str) -> TwiceNatConfig:
        """The same behaviour with these external addresses."""
        return replace(self, nat=self.nat.at(*public_addresses))


@dataclass(frozen=True, slots=True, kw_only=True)
class Nat64Config:
    """A NAT between IPv6 inside and IPv4 outside (RFC 6146); ``nat`` says how it maps and filters."""

    nat: NatConfig
    prefix: str = WELL_KNOWN_PREFIX
    """Where inside sees IPv4: a length of 32, 40, 48, 56, 64 or 96 bits (RFC 6052 §2.2)."""

    def __post_init__(self) -> None:
        network = IPv6Network(self.prefix)
        if network.prefixlen not in (32, 40, 48, 56, 64, 96):
            raise ValueError(f"{self.prefix} is no prefix for IPv4 addresses")
        if network.network_address.packed[8]:
            raise ValueError(f"bits 64 to 71 of {self.prefix} must be zero")

    def at(self, *public_addresses: str) -> Nat64Config:
        """The same behaviour with these external addresses."""
        return replace(self, nat=self.nat.at(*public_addresses))


LayerConfig = NatConfig | FirewallConfig | BasicNatConfig | TwiceNatConfig | Nat64Config
"""What one middlebox on the way from a host to the internet is told."""
