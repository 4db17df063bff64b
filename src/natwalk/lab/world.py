"""A layout built: its machines by name, and what can happen to them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from natwalk.lab.conditions import Conditions
from natwalk.lab.engine import EngineRouter
from natwalk.lab.errors import LabError, LabUnavailable
from natwalk.lab.layout import HostLayout, Layout, NatLayout, NetworkLayout
from natwalk.lab.nodes import Capture, Gateway, Network, Node, Router
from natwalk.lab.space import Space
from natwalk.nat import KINDS, describe, preset

_KERNEL_HINT: Final = "the kernel must have veth, bridges, TUN, nftables with NAT, and /proc/sys be writable"
_FIREWALL6: Final = """
table ip6 natwalk6
delete table ip6 natwalk6
table ip6 natwalk6 {
  chain guard {
    type filter hook forward priority 0; policy accept;
    iifname "wan" ct state established,related accept
    iifname "wan" meta l4proto ipv6-icmp icmpv6 type packet-too-big accept
    iifname "wan" drop
  }
}
"""


class World:
    """An internet of namespaces as a :class:`~natwalk.lab.layout.Layout` says.

    ``nodes`` has its hosts and NATs by name and ``internet``, the router in the middle. Use it as a context
    manager, or call :meth:`close`; it disappears with everything in it even if this process is killed. Raises
    :class:`LabUnavailable` where the machine gives us no namespaces.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._networks: dict[str, Network] = {}
        self._nodes: dict[str, Node] = {}
        self._captures: dict[str, Capture] = {}
        self._programs: list[subprocess.Popen[bytes]] = []
        self._space = Space()
        try:
            self._build()
        except LabUnavailable:
            self._space.close()
            raise
        except LabError as error:
            self._space.close()
            raise LabUnavailable(str(error), _KERNEL_HINT) from error
        except BaseException:
            self._space.close()
            raise

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Its machines by name."""
        return MappingProxyType(self._nodes)

    @property
    def in_user_namespace(self) -> bool:
        """Whether it was built without being root."""
        return self._space.in_user_namespace

    @property
    def keeper_pid(self) -> int:
        """The process that ends last."""
        return self._space.keeper_pid

    @property
    def stands(self) -> bool:
        """Whether its namespaces are still kept."""
        return self._space.stands

    def node(self, name: str) -> Node:
        """The machine called ``name``. Raises LabError naming those there are."""
        node = self._nodes.get(name)
        if node is None:
            raise LabError(f"there is no {name!r}: there are {', '.join(self._nodes)}")
        return node

    def nat(self, name: str) -> Router | EngineRouter:
        """The NAT called ``name``. Raises LabError when that is none."""
        node = self.node(name)
        if not isinstance(node, Router | EngineRouter):
            nats = [each for each, node in self._nodes.items() if isinstance(node, Router | EngineRouter)]
            raise LabError(f"{name} is no NAT: those are {', '.join(nats)}")
        return node

    # What can happen

    def reboot(self, nat: str, *, new_ports: bool = False) -> None:
        """Have a NAT lose its state; with ``new_ports`` its mappings then get others. Raises LabError."""
        self.nat(nat).reset(new_ports=new_ports)

    def change(self, nat: str, kind: str) -> None:
        """Make a NAT one of another kind. Raises LabError, or ValueError for a kind no table knows."""
        spec = preset(kind)
        router = self.nat(nat)
        if isinstance(router, EngineRouter):
            router.change(spec)
        elif kind in KINDS and len(spec.layers) == 1:
            router.change(spec.layers[0])
        else:
            raise LabError(f"{nat} is a NAT of the kernel: it cannot become {kind}")

    def fill(self, nat: str, count: int = 65_536) -> int:
        """Fill the table of a NAT; how many mappings there was room for. Raises LabError."""
        router = self.nat(nat)
        if not isinstance(router, EngineRouter):
            raise LabError(f"{nat} is a NAT of the kernel: only the engine's tables can be filled")
        return router.fill(count)

    def move(self, host: str, network: str, number: int | None = None) -> str:
        """Plug a host into another network; the address it has there.

        ``number`` is its host number there, the first free one if None. Raises LabError.
        """
        node = self.node(host)
        if isinstance(node, Gateway):
            raise LabError(f"{host} is a router: only hosts can move")
        if network not in self._networks:
            raise LabError(f"there is no network {network!r}: there are {', '.join(self._networks)}")
        there = self._networks[network]
        taken = {each.address for each in self._nodes.values()}
        if number is None:
            number = next(n for n in range(20, 250) if str(there.subnet[n]) not in taken)
        if host in self._captures:
            self.stop_capture(host)
        (layout,) = (each for each in self.layout.hosts if each.name == host)
        self._network_of(node).detach(node)
        there.attach(node, "eth0", number, conditions=layout.cable)
        return node.address

    def capture(self, name: str, path: Path) -> None:
        """Write what crosses the cable of ``name`` to a pcap file. Raises LabError."""
        if name in self._captures:
            raise LabError(f"the cable of {name} is captured already, to {self._captures[name].path}")
        self._captures[name] = self.node(name).capture(path)

    def stop_capture(self, name: str) -> Path:
        """End the capture of the cable of ``name``; its file. Raises LabError when there is none."""
        if name not in self._captures:
            raise LabError(f"the cable of {name} is not captured")
        capture = self._captures.pop(name)
        capture.close()
        return capture.path

    def condition(self, name: str, conditions: Conditions) -> None:
        """Change the conditions of the cable of ``name``, both ways. Raises LabError."""
        self.node(name).condition(conditions)

    def status(self) -> dict[str, Any]:
        """What is there: of each machine its process, addresses and state."""
        found = {}
        for name, node in self._nodes.items():
            row: dict[str, Any] = {"pid": node.pid, "address": node.address, "address6": node.address6}
            if isinstance(node, Router):
                row["nat"] = {"by": "kernel", "kind": describe(node.layer)}
            elif isinstance(node, EngineRouter):
                row["nat"] = {"by": "engine", "kind": node.spec.name, **node.statistics()}
            if name in self._captures:
                row["capture"] = str(self._captures[name].path)
            found[name] = row
        return {
            "title": self.layout.title,
            "user_namespace": self.in_user_namespace,
            "keeper": self.keeper_pid,
            "nodes": found,
            "programs": [
                {"command": process.args, "pid": process.pid, "exit": process.poll()}
                for process in self._programs
            ],
        }

    def close(self) -> None:
        """Kill every program in it and remove it. Safe to call twice."""
        self._space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Building

    def _build(self) -> None:
        layout = self.layout
        internet = Gateway(self._space, "internet", ipv6=True)
        self._nodes["internet"] = internet
        internet.ip("route add blackhole default")
        internet.ip6("route add blackhole default")
        planned = {network.name: network for network in layout.networks}
        for network in layout.networks:
            if layout.gateway_of(network.name) is None:
                self._networks[network.name] = self._network(internet, network, f"net{len(self._networks)}")
        for nat in layout.in_order():
            self._nat(nat, planned[nat.inside])
        for host in layout.hosts:
            self._host(host)
        for host in layout.hosts:
            for argv in host.run:
                self._programs.append(self._nodes[host.name].popen(argv, stdout=subprocess.DEVNULL))

    def _network(self, gateway: Gateway, plan: NetworkLayout, bridge: str) -> Network:
        return Network(gateway, bridge, plan.subnet, plan.mtu, plan.subnet6)

    def _nat(self, nat: NatLayout, inside: NetworkLayout) -> None:
        outside = self._networks[nat.outside]
        router: Router | EngineRouter
        if nat.engine:
            router = EngineRouter(self._space, nat.name, nat.spec, ipv6=True)
            router.attach(outside, nat.number, nat.cable)
            lan = self._network(router, inside, "lan")
            router.load(lan)
        else:
            router = Router(self._space, nat.name, nat.spec.layers[0], ipv6=True)
            outside.attach(router, "wan", nat.number, conditions=nat.cable)
            lan = self._network(router, inside, "lan")
            router.load()
        self._nodes[nat.name] = router
        self._networks[nat.inside] = lan
        if inside.subnet6 is not None and router.address6:
            outside.gateway.ip6(f"route add {inside.subnet6} via {router.address6}")
            router.nft(_FIREWALL6)

    def _host(self, host: HostLayout) -> None:
        node = Node(self._space, host.name, ipv6=True)
        self._networks[host.network].attach(node, "eth0", *host.numbers, conditions=host.cable)
        self._nodes[host.name] = node

    def _network_of(self, node: Node) -> Network:
        for network in self._networks.values():
            if network.gateway is node.plug.gateway and node.plug.port.startswith(f"{network.bridge}-"):
                return network
        raise LabError(f"{node.name} is on no network")
