"""The machines of a lab: hosts and routers, and the networks that connect them."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, NamedTuple

from natwalk.lab.kinds import port_mask_of, ruleset
from natwalk.lab.space import Namespace, Space, tool
from natwalk.lab.topology import host_in
from natwalk.nat import LayerConfig

_NO_IPV6: Final = ("net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6")
_PORT_MASK_STEP: Final = 0x1000
_BURST: Final = 32  # kilobytes a rate limit lets through at once
_QUEUE: Final = 50  # milliseconds of queue before a rate limit; what does not fit is lost
_PORT_MASKS: Final = 0x4000  # masks stay below, so that ports from 32768 up stay there


class Node(Namespace):
    """One machine: a namespace with its loopback up and, once attached, an address on a network."""

    def __init__(self, space: Space, name: str) -> None:
        super().__init__(space, name, space.new_pid())
        self._plug: _Plug | None = None
        self.address = ""
        """Its (first) IPv4 address on the network it is attached to."""
        self.ip("link set lo up")
        if Path("/proc/sys/net/ipv6").exists():
            self.sysctl("1", *_NO_IPV6)

    def link_down(self) -> None:
        """Pull the cable: the carrier goes, addresses and routes stay. Raises LabError."""
        self._set_link("down")

    def link_up(self) -> None:
        """Plug the cable in again. Raises LabError."""
        self._set_link("up")

    def limit_rate(self, bytes_per_second: int) -> None:
        """Make its cable that slow in each direction, with a drop-tail queue of 50 ms. Raises LabError."""
        plug = self._plugged
        bucket = f"tbf rate {bytes_per_second}bps burst {_BURST}kb latency {_QUEUE}ms"
        for end, interface in ((self, plug.interface), (plug.gateway, plug.port)):
            end.run([tool("tc"), "qdisc", "replace", "dev", interface, "root", *bucket.split()])

    def plugged(self, gateway: Namespace, port: str, interface: str, address: str) -> None:
        """Note where this node's cable is at both ends, and its address there."""
        self._plug = _Plug(gateway, port, interface)
        self.address = address

    @property
    def _plugged(self) -> _Plug:
        assert self._plug is not None, f"{self.name} is not attached to a network"
        return self._plug

    def _set_link(self, state: str) -> None:
        plug = self._plugged
        plug.gateway.ip(f"link set {plug.port} {state}")


class _Plug(NamedTuple):
    """A cable: the ``port`` of the gateway at one end, the node's ``interface`` at the other."""

    gateway: Namespace
    port: str
    interface: str


class Gateway(Node):
    """A node that forwards between its networks."""

    def __init__(self, space: Space, name: str) -> None:
        super().__init__(space, name)
        self.sysctl("1", "net/ipv4/ip_forward")


class Router(Gateway):
    """A NAT router: ``layer`` says how it behaves; its home side is ``lan``, its public side ``wan``."""

    def __init__(self, space: Space, name: str, layer: LayerConfig) -> None:
        super().__init__(space, name)
        self.layer = layer
        self._port_mask = port_mask_of(layer)

    def load(self) -> None:
        """Load the rules of its kind; needs its public address. Raises LabError."""
        self.nft(ruleset(self.layer, self.address, self._port_mask))

    def reset(self, *, new_ports: bool = False) -> None:
        """Lose all state, as a router that restarts does: mappings, filters, connections. Raises LabError.

        With ``new_ports`` mappings made from now on get other public ports than before, so a peer that
        keeps sending to the old one reaches nobody.
        """
        if new_ports:
            self._port_mask = (self._port_mask + _PORT_MASK_STEP) % _PORT_MASKS
        self.load()
        self.python(Path(__file__).with_name("flush.py"))

    def set_udp_timeouts(self, unreplied: int, stream: int) -> None:
        """How long, in seconds, idle UDP entries live: before an answer, and in a two-way flow."""
        self.sysctl(str(unreplied), "net/netfilter/nf_conntrack_udp_timeout")
        self.sysctl(str(stream), "net/netfilter/nf_conntrack_udp_timeout_stream")


class Network:
    """One subnet: a bridge in the namespace of its gateway, which is host 1 in it."""

    def __init__(self, gateway: Gateway, bridge: str, subnet: IPv4Network, mtu: int = 1500) -> None:
        self._gateway = gateway
        self._bridge = bridge
        self._subnet = subnet
        self._mtu = mtu
        self._next_port = 0
        address = f"{host_in(subnet, 1)}/{subnet.prefixlen}"
        gateway.ip(
            f"link add {bridge} type bridge",
            f"address add {address} dev {bridge}",
            f"link set {bridge} mtu {mtu} up",
        )

    def attach(self, node: Node, interface: str, *numbers: int) -> None:
        """Run a cable from ``node`` to this network, with these host numbers and a default route."""
        port = f"{self._bridge}-{self._next_port}"
        mtu = self._mtu
        self._next_port += 1
        self._gateway.ip(
            f"link add {port} mtu {mtu} type veth peer name {interface} mtu {mtu} netns {node.pid}",
            f"link set {port} master {self._bridge} up",
        )
        addresses = [host_in(self._subnet, number) for number in numbers]
        node.ip(
            *(f"address add {address}/{self._subnet.prefixlen} dev {interface}" for address in addresses),
            f"link set {interface} up",
            f"route add default via {host_in(self._subnet, 1)}",
        )
        node.plugged(self._gateway, port, interface, addresses[0])
