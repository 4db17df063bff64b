"""The internet most questions need: a public server, and two peers behind the NATs of their kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import Address
from natwalk.nat import FirewallConfig, KindSpec, Nat, kind_spec
from natwalk.nat.services import Gateway
from natwalk.sim.channel import Channel
from natwalk.sim.host import Host
from natwalk.sim.link import Link, LinkConfig
from natwalk.sim.network import Network
from natwalk.sim.router import Router
from natwalk.sim.trace import Trace

SERVER: Final = "203.0.113.10"
SERVER_ALTERNATE: Final = "203.0.113.11"
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
    """The IP address others see it at."""


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


def two_peers(
    nat_a: str | KindSpec,
    nat_b: str | KindSpec,
    *,
    seed: int,
    same_lan: bool = False,
    delay: float = DELAY,
    access: LinkConfig | None = None,
    trace: Trace | None = None,
) -> Internet:
    """Server, core and two peers behind NATs of those kinds: names of :data:`natwalk.nat.KINDS`, or own ones.

    ``delay`` is one-way between a peer and the core, in seconds; ``access`` replaces that link's whole
    behaviour. With ``same_lan`` both sit behind the one NAT of ``nat_a``. The server is at 203.0.113.10 and
    .11. Raises ValueError for an unknown kind, or when one LAN is asked to have two kinds.
    """
    spec_a, spec_b = (nat if isinstance(nat, KindSpec) else kind_spec(nat) for nat in (nat_a, nat_b))
    if same_lan and spec_a != spec_b:
        raise ValueError(f"peers on one LAN have one NAT, not {spec_a.name} and {spec_b.name}")
    network = Network(seed, trace=trace)
    core = network.router("core")
    server = network.host("server")
    network.connect(server, core, SERVER, SERVER_ALTERNATE, config=LAN)
    config = access or LinkConfig(delay=delay)
    a = _site(network, core, "a", spec_a, REGION_A, config)
    if same_lan:
        b = _neighbour(network, core, a, spec_a, config)
    else:
        b = _site(network, core, "b", spec_b, REGION_B, config)
    return Internet(network, core, server, a, b)


def _site(
    network: Network, core: Router, name: str, spec: KindSpec, region: Region, config: LinkConfig
) -> Site:
    """One peer, its routers from inside out, the access link last."""
    host = network.host(name)
    node: Host | Router = host
    address = _host_address(spec, region, 10)
    addresses: tuple[str, ...] = (address,)
    routers: list[Router] = []
    for depth, layer in enumerate(spec.layers):
        outside, others = address, addresses[1:]
        if not isinstance(layer, FirewallConfig):
            more = any(not isinstance(outer, FirewallConfig) for outer in spec.layers[depth + 1 :])
            outside = (region.shared if more else region.public).format(depth + 1)
            others = () if more else tuple(map(region.public.format, range(21, 20 + spec.public_addresses)))
        router = network.router(f"{_role(spec, depth)}-{name}", layer, public_addresses=(outside, *others))
        network.connect(node, router, *addresses, config=LAN)
        if spec.services is not None and not routers and isinstance(router.box, Nat):
            lan = spec.services.at(region.private.format(1), f"{region.private.format(0)}/24")
            router.gateway = Gateway(lan, router.box, network.now)
        routers.append(router)
        node, address, addresses = router, outside, (outside, *others)
    access = network.connect(node, core, *addresses, config=config)
    return Site(spec.name, host, tuple(routers), access, address)


def _neighbour(network: Network, core: Router, first: Site, spec: KindSpec, config: LinkConfig) -> Site:
    """A second peer on the LAN of ``first``; without any router both are on the open internet."""
    host = network.host("b")
    address = _host_address(spec, REGION_A, 11)
    if not first.routers:
        return Site(first.kind, host, (), network.connect(host, core, address, config=config), address)
    network.connect(host, first.routers[0], address, config=LAN)
    if spec.translates:
        return Site(first.kind, host, first.routers, first.access, first.public)
    core.route(address, first.access.inward)
    return Site(first.kind, host, first.routers, first.access, address)


def _host_address(spec: KindSpec, region: Region, number: int) -> str:
    return (region.private if spec.translates else region.public).format(number)


def _role(spec: KindSpec, depth: int) -> str:
    if isinstance(spec.layers[depth], FirewallConfig):
        return "firewall"
    return "nat" if len(spec.layers) == 1 else ("home", "carrier")[min(depth, 1)]
