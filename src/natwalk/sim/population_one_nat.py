"""Two peers in LANs of their own behind one NAT: whether they meet is up to its hairpinning (RFC 4787 §6)."""

from __future__ import annotations

from typing import Final

from natwalk.nat import FirewallConfig, KindSpec, kind_spec
from natwalk.sim.host import Host
from natwalk.sim.internet import (
    DELAY,
    LAN,
    REGION_A,
    REGION_B,
    SERVER,
    SERVER_ALTERNATE,
    Internet,
    Region,
    Site,
)
from natwalk.sim.link import LinkConfig
from natwalk.sim.network import Network
from natwalk.sim.router import Router
from natwalk.sim.trace import Trace

_HOME: Final = kind_spec("port-restricted").layers[0]


def behind_one_nat(nat_a: KindSpec, nat_b: KindSpec, *, seed: int, trace: Trace | None = None) -> Internet:
    """Server, core and two peers whose LANs are joined by the outermost NAT of ``nat_a`` only.

    The layers inside of it are each peer's own; where there are none, a plain home router is. Both are at
    one public address and share the access link, whose delay is the one to be set. Raises ValueError when
    there is no NAT.
    """
    *_, outermost = nat_a.layers or (None,)
    if outermost is None or isinstance(outermost, FirewallConfig):
        raise ValueError(f"{nat_a.name} has no NAT for two peers to be behind")
    network = Network(seed, trace=trace)
    core = network.router("core")
    server = network.host("server")
    network.connect(server, core, SERVER, SERVER_ALTERNATE, config=LAN)
    public = REGION_A.public.format(9)
    shared = network.router("shared", outermost, public_addresses=(public,))
    a = _inside(network, shared, "a", nat_a, REGION_A)
    b = _inside(network, shared, "b", nat_b, REGION_B)
    access = network.connect(shared, core, public, config=LinkConfig(delay=DELAY))
    sites = (Site(spec.name, host, routers, access, public) for spec, host, routers in (a, b))
    return Internet(network, core, server, *sites)


def _inside(
    network: Network, shared: Router, name: str, spec: KindSpec, region: Region
) -> tuple[KindSpec, Host, tuple[Router, ...]]:
    """One peer and its own routers, from inside out, the shared one last."""
    node: Host | Router
    node = host = network.host(name)
    address = region.private.format(10)
    routers: list[Router] = []
    for depth, layer in enumerate(spec.layers[:-1] or (_HOME,), start=1):
        outside = address if isinstance(layer, FirewallConfig) else region.shared.format(depth)
        router = network.router(f"home{depth}-{name}", layer, public_addresses=(outside,))
        network.connect(node, router, address, config=LAN)
        routers.append(router)
        node, address = router, outside
    network.connect(node, shared, address, config=LAN)
    return spec, host, (*routers, shared)
