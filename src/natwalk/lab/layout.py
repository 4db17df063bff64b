"""What an internet of the lab is made of: networks, NATs between them, hosts on them, cables; in Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from natwalk.lab.conditions import Conditions
from natwalk.lab.errors import LabError
from natwalk.nat import KINDS, KindSpec, Nat64Config

DOCUMENTATION: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)
"""Public networks are inside of these (RFC 5737, RFC 3849): nothing that leaks could reach anyone."""
_HIDDEN: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")


class LayoutError(LabError, ValueError):
    """A layout that cannot be built; the message says what is wrong where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLayout:
    """One subnet. It is public unless a NAT has it inside; its gateway is host 1."""

    name: str
    subnet: IPv4Network
    subnet6: IPv6Network | None = None
    mtu: int = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class NatLayout:
    """A NAT between two networks; ``outside`` and ``inside`` are their names.

    IPv6 it does not translate: hosts have their own addresses, and a firewall before them that lets in what
    was asked for.
    """

    name: str
    spec: KindSpec
    outside: str
    inside: str
    number: int = 2
    """Its host number outside."""
    engine: bool = True
    """Our engine in user space, or else the kernel's NAT."""
    cable: Conditions | None = None
    """Of its cable to the network outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLayout:
    """A host; ``run`` are programs started with it, by their command lines."""

    name: str
    network: str
    numbers: tuple[int, ...] = (10,)
    """Its host numbers there, one for each address it has."""
    cable: Conditions | None = None
    run: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A whole internet. Raises :class:`LayoutError` when it cannot be built."""

    networks: Sequence[NetworkLayout] = ()
    nats: Sequence[NatLayout] = ()
    hosts: Sequence[HostLayout] = ()
    title: str = ""
    _gateways: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        known = {network.name: network for network in self.networks}
        names = [each.name for part in (self.networks, self.nats, self.hosts) for each in part]
        for name in names:
            if not _NAME.fullmatch(name):
                raise LayoutError(f"{name!r} is no name: letters, digits and dashes, beginning with a letter")
            if names.count(name) > 1 or name == "internet":
                raise LayoutError(f"there are two things called {name!r}")
        for nat in self.nats:
            self._check_nat(nat, known)
        for network in self.networks:
            self._check_network(network)
        taken: dict[tuple[str, int], str] = {}
        for nat in self.nats:
            for number in range(nat.number, nat.number + nat.spec.public_addresses):
                self._take(taken, known, nat.name, nat.outside, number)
        for host in self.hosts:
            if host.network not in known:
                raise LayoutError(f"host {host.name}: there is no network {host.network!r}")
            for number in host.numbers:
                self._take(taken, known, host.name, host.network, number)
        self.in_order()

    def gateway_of(self, network: str) -> str | None:
        """The NAT that has ``network`` inside; None when it is public."""
        return self._gateways.get(network)

    def in_order(self) -> list[NatLayout]:
        """The NATs, each after the one it is behind. Raises LayoutError for a circle."""
        done = {network.name for network in self.networks if network.name not in self._gateways}
        left = list(self.nats)
        order: list[NatLayout] = []
        while left:
            ready = [nat for nat in left if nat.outside in done]
            if not ready:
                raise LayoutError(f"{', '.join(nat.name for nat in left)} are behind each other in a circle")
            order += ready
            done |= {nat.inside for nat in ready}
            left = [nat for nat in left if nat not in ready]
        return order

    def _check_nat(self, nat: NatLayout, known: dict[str, NetworkLayout]) -> None:
        for network in (nat.outside, nat.inside):
            if network not in known:
                raise LayoutError(f"nat {nat.name}: there is no network {network!r}")
        if nat.inside in self._gateways:
            raise LayoutError(f"network {nat.inside} is inside of {self._gateways[nat.inside]} already")
        if not nat.spec.layers:
            raise LayoutError(f"nat {nat.name}: {nat.spec.name} is no NAT; put the hosts outside")
        six = any(isinstance(layer, Nat64Config) for layer in nat.spec.layers)
        if six and known[nat.inside].subnet6 is None:
            raise LayoutError(f"nat {nat.name}: network {nat.inside} needs a subnet6 for {nat.spec.name}")
        if not nat.engine and nat.spec.name not in KINDS:
            raise LayoutError(f"nat {nat.name}: the kernel cannot be {nat.spec.name}, the engine can")
        if not nat.engine and len(nat.spec.layers) > 1:
            raise LayoutError(
                f"nat {nat.name}: in the kernel {nat.spec.name} is two NATs with a network between"
            )
        self._gateways[nat.inside] = nat.name

    def _check_network(self, network: NetworkLayout) -> None:
        public = network.name not in self._gateways
        allowed = DOCUMENTATION if public else DOCUMENTATION + _HIDDEN
        for subnet in (network.subnet, network.subnet6):
            if subnet is not None and not _is_in(subnet, allowed):
                ranges = ", ".join(str(a) for a in allowed if a.version == subnet.version)
                raise LayoutError(f"network {network.name}: {subnet} is not inside of {ranges}")
        if not 1280 <= network.mtu <= 9000:
            raise LayoutError(f"network {network.name}: an mtu of {network.mtu} is not between 1280 and 9000")
        for other in self.networks:
            both_public = public and other.name not in self._gateways
            if both_public and other is not network and other.subnet.overlaps(network.subnet):
                raise LayoutError(f"networks {network.name} and {other.name} overlap")

    def _take(
        self,
        taken: dict[tuple[str, int], str],
        known: dict[str, NetworkLayout],
        name: str,
        network: str,
        number: int,
    ) -> None:
        if not 2 <= number < known[network].subnet.num_addresses - 1:
            raise LayoutError(f"{name}: network {network} has no host {number}")
        other = taken.setdefault((network, number), name)
        if other != name:
            raise LayoutError(f"{name} and {other} have the same address in {network}")


def _is_in(subnet: IPv4Network | IPv6Network, ranges: Sequence[IPv4Network | IPv6Network]) -> bool:
    for each in ranges:
        if isinstance(subnet, IPv4Network) and isinstance(each, IPv4Network) and subnet.subnet_of(each):
            return True
        if isinstance(subnet, IPv6Network) and isinstance(each, IPv6Network) and subnet.subnet_of(each):
            return True
    return False


def number_in(network: NetworkLayout, address: str) -> int:
    """The host number of ``address``, IPv4 or IPv6, in ``network``. Raises LayoutError if it is not there."""
    try:
        parsed = ip_address(address)
    except ValueError as error:
        raise LayoutError(str(error)) from error
    subnet = network.subnet if parsed.version == 4 else network.subnet6
    if subnet is None or parsed not in subnet:
        raise LayoutError(f"{address} is not in network {network.name}")
    return int(parsed) - int(subnet.network_address)
