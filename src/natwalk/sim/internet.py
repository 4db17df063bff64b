"""The internet most questions need: a public server, and two peers behind the NATs of their kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from natwalk.core import Address
from natwalk.nat import FirewallConfig, KindSpec, LayerConfig, Nat, Packet, kind_spec, preset
from natwalk.nat.services import Gateway
from natwalk.sim.channel import Channel
from natwalk.sim.host import Host
from natwalk.sim.link import Link, LinkConfig, Pipe
from natwalk.sim.network import Network
from natwalk.sim.router import Router
from natwalk.sim.trace import Trace

SERVER: Final = "203.0.113.10"
SERVER_ALTERNATE: Final = "203.0.113.11"
SERVER_IPV6: Final = "2001:db8:5::10"
LAN: Final = LinkConfig(delay=0.0005)
DELAY: Final = 0.020


@dataclass(frozen=True, slots=True)
class Region:
    """The addresses used on one side: ``public`` outside, ``private`` at home, ``shared`` at the carrier."""

    public: str
    private: str
    shared: str
    """RFC 6598 §7 addresses between home router and carrier."""


REGION_A: Final = Region("198.51.100.{}", "192.168.1.{}", "100.64.0.{}")
REGION_B: Final = Region("192.0.2.{}", "10.0.0.{}", "100.64.1.{}")
REGION_A6: Final = Region("2001:db8:a::{}", "fd00:a::{}", "fd00:a:1::{}")
REGION_B6: Final = Region("2001:db8:b::{}", "fd00:b::{}", "fd00:b:1::{}")
CARRIER: Final = "198.51.100.200"
"""The public address of a carrier NAT that both peers are behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """How a peer is attached: what is before it over each IP version, None for one it does not have.

    Kinds are names of :data:`natwalk.nat.PRESETS` or own ones. A NAT given for IPv6 translates IPv6; what
    homes have there is a firewall: the preset ``home-ipv6``.
    """

    ipv4: str | KindSpec | None = None
    ipv6: str | KindSpec | None = None

    def __post_init__(self) -> None:
        if self.ipv4 is None and self.ipv6 is None:
            raise ValueError("a peer without IPv4 and IPv6 is not on this internet")

    @property
    def specs(self) -> tuple[KindSpec | None, KindSpec | None]:
        """What is before the peer over IPv4 and over IPv6."""
        one, two = (preset(kind) if isinstance(kind, str) else kind for kind in (self.ipv4, self.ipv6))
        return one, two


Kind = str | KindSpec | Attachment
"""A kind of NAT by name (of :data:`natwalk.nat.KINDS`) or one's own, over IPv4; or by IP version."""


@dataclass(frozen=True, slots=True)
class Site:
    """One peer and what is between it and the core of the internet."""

    kind: str
    host: Host
    routers: tuple[Router, ...]
    """From the peer outwards; empty for a peer on the open internet."""
    access: Link
    """The long link, to the core: where delay and loss are. Peers on one LAN share it."""
    public: str
    """The IP address others see it at: the IPv4 one if it has both."""
    routers6: tuple[Router, ...] = ()
    """What is before it over IPv6, from the peer outwards."""
    public6: str | None = None
    """The IPv6 address others see it at, if it has one."""


@dataclass(frozen=True, slots=True)
class Internet:
    """What :func:`two_peers` builds."""

    network: Network
    core: Router
    server: Host
    a: Site
    b: Site

    def channels(self) -> tuple[Channel, Channel]:
        """A message channel from each peer to the server, as slow as the way there."""
        network, server = self.network, self.server
        return (
            network.channel(self.a.host, server, self.a.access.outward.config.delay),
            network.channel(self.b.host, server, self.b.access.outward.config.delay),
        )

    def server_address(self, port: int = 3478) -> Address:
        """The server's first address with ``port``."""
        return Address(SERVER, port)


class _Junction:
    """Where the ways of both IP versions out of one home become one line; it costs no hop."""

    def __init__(self, name: str, nodes: Mapping[int, Host | Router]) -> None:
        self.name = name
        self._nodes = nodes

    def plug(self, address: str, uplink: Pipe) -> None:
        """Give the node of the address's version this line outwards."""
        self._nodes[6 if ":" in address else 4].plug(address, uplink)

    def receive(self, packet: Packet, serial: int) -> None:
        """Hand a packet from outside to the node of its version."""
        self._nodes[packet.destination.version].receive(packet, serial)


def two_peers(
    nat_a: Kind,
    nat_b: Kind,
    *,
    seed: int,
    same_lan: bool = False,
    carrier: LayerConfig | None = None,
    delay: float = DELAY,
    access: LinkConfig | None = None,
    access_b: LinkConfig | None = None,
    trace: Trace | None = None,
) -> Internet:
    """Server, core and two peers behind the NATs of their kinds.

    ``delay`` is one-way between a peer and the core, in seconds; ``access`` replaces that link's whole
    behaviour, ``access_b`` that of the second peer's if it differs. With ``same_lan`` both sit behind the one
    NAT of ``nat_a``; with ``carrier`` both homes are behind one more NAT, of IPv4. The server is at
    203.0.113.10 and .11, and at 2001:db8:5::10. Raises ValueError for an unknown kind, or when one LAN is
    asked to have two kinds or IPv6.
    """
    attached_a, attached_b = attachment(nat_a), attachment(nat_b)
    (spec_a, spec_a6), (spec_b, spec_b6) = attached_a.specs, attached_b.specs
    network = Network(seed, trace=trace)
    core = network.router("core")
    server = network.host("server")
    network.connect(server, core, SERVER, SERVER_ALTERNATE, SERVER_IPV6, config=LAN)
    config = access or LinkConfig(delay=delay)
    outer = core
    if carrier is not None:
        outer = network.router("carrier", carrier, public_addresses=(CARRIER,))
        network.connect(outer, core, CARRIER, config=LAN)
    builder = Builder(network, outer, shared=carrier is not None)
    if same_lan:
        if spec_a is None or spec_a != spec_b or spec_a6 is not None or spec_b6 is not None:
            raise ValueError(f"peers on one LAN have one NAT, not {nat_a} and {nat_b}")
        a = builder.site("a", attached_a, (REGION_A, REGION_A6), config)
        return Internet(network, core, server, a, _neighbour(network, outer, a, spec_a, config))
    a = builder.site("a", attached_a, (REGION_A, REGION_A6), config)
    b = builder.site("b", attached_b, (REGION_B, REGION_B6), access_b or config)
    return Internet(network, core, server, a, b)


def attachment(kind: Kind) -> Attachment:
    """The attachment that ``kind`` stands for; raises ValueError for an unknown one."""
    match kind:
        case Attachment():
            return kind
        case KindSpec():
            return Attachment(ipv4=kind)
        case _:
            return Attachment(ipv4=kind_spec(kind))


@dataclass(frozen=True, slots=True)
class _Way:
    """One IP version's way out of a home, all but the access link."""

    routers: tuple[Router, ...]
    end: Host | Router
    addresses: tuple[str, ...]
    """What the access link leads to, the peer's public address first."""


class Builder:
    """Builds sites onto the router ``outer``; ``shared``: that one translates once more."""

    def __init__(self, network: Network, outer: Router, *, shared: bool) -> None:
        self._network = network
        self._outer = outer
        self._shared = shared

    def site(
        self, name: str, attached: Attachment, regions: tuple[Region, Region], config: LinkConfig
    ) -> Site:
        """A new peer with its routers, and the access link."""
        return self.attach(self._network.host(name), name, attached, regions, config)

    def attach(
        self,
        host: Host,
        name: str,
        attached: Attachment,
        regions: tuple[Region, Region],
        config: LinkConfig,
    ) -> Site:
        """Connect ``host`` by routers of its own, which have ``name`` in theirs."""
        ways: dict[int, _Way] = {}
        for version, spec, region in zip((4, 6), attached.specs, regions, strict=True):
            if spec is not None:
                ways[version] = self._way(host, name, spec, region, version)
        first = next(iter(ways.values()))
        addresses = [address for way in ways.values() for address in way.addresses]
        node: Host | Router | _Junction = first.end
        if len(ways) > 1 and ways[4].end is not ways[6].end:
            node = _Junction(name, {version: way.end for version, way in ways.items()})
        access = self._network.connect(node, self._outer, *addresses, config=config)
        return Site(
            " and ".join(spec.name for spec in attached.specs if spec is not None),
            host,
            ways[4].routers if 4 in ways else (),
            access,
            CARRIER if self._shared and 4 in ways else first.addresses[0],
            ways[6].routers if 6 in ways else (),
            ways[6].addresses[0] if 6 in ways else None,
        )

    def _way(self, host: Host, name: str, spec: KindSpec, region: Region, version: int) -> _Way:
        """The routers of one IP version, from inside out."""
        network = self._network
        if self._shared and version == 4:
            region = replace(region, public=region.shared.replace("100.64", "100.100"))
        node: Host | Router = host
        address = _host_address(spec, region, 10)
        addresses: tuple[str, ...] = (address,)
        routers: list[Router] = []
        for depth, layer in enumerate(spec.layers):
            outside, others = address, addresses[1:]
            if not isinstance(layer, FirewallConfig):
                more = any(not isinstance(outer, FirewallConfig) for outer in spec.layers[depth + 1 :])
                outside = (region.shared if more else region.public).format(depth + 1)
                others = (
                    () if more else tuple(map(region.public.format, range(21, 20 + spec.public_addresses)))
                )
            role = f"{_role(spec, depth)}{'' if version == 4 else version}-{name}"
            router = network.router(role, layer, public_addresses=(outside, *others))
            network.connect(node, router, *addresses, config=LAN)
            if spec.services is not None and not routers and isinstance(router.box, Nat):
                lan = spec.services.at(region.private.format(1), f"{region.private.format(0)}/24")
                router.gateway = Gateway(lan, router.box, network.now)
            routers.append(router)
            node, address, addresses = router, outside, (outside, *others)
        return _Way(tuple(routers), node, addresses)


def _neighbour(network: Network, outer: Router, first: Site, spec: KindSpec, config: LinkConfig) -> Site:
    """A second peer on the LAN of ``first``; without any router both are on the open internet."""
    host = network.host("b")
    address = _host_address(spec, REGION_A, 11)
    if not first.routers:
        return Site(first.kind, host, (), network.connect(host, outer, address, config=config), address)
    network.connect(host, first.routers[0], address, config=LAN)
    if spec.translates:
        return Site(first.kind, host, first.routers, first.access, first.public)
    outer.route(address, first.access.inward)
    return Site(first.kind, host, first.routers, first.access, address)


def _host_address(spec: KindSpec, region: Region, number: int) -> str:
    return (region.private if spec.translates else region.public).format(number)


def _role(spec: KindSpec, depth: int) -> str:
    if isinstance(spec.layers[depth], FirewallConfig):
        return "firewall"
    return "nat" if len(spec.layers) == 1 else ("home", "carrier")[min(depth, 1)]
