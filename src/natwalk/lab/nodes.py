"""The machines of a lab: hosts and routers, and the networks that connect them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, NamedTuple

from natwalk.lab.child import Child
from natwalk.lab.conditions import Conditions
from natwalk.lab.errors import LabError
from natwalk.lab.kinds import port_mask_of, ruleset
from natwalk.lab.space import Namespace, Space, tool
from natwalk.lab.topology import host_in
from natwalk.nat import LayerConfig

_NO_IPV6: Final = ("net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6")
_NO_DAD: Final = ("net/ipv6/conf/all/accept_dad", "net/ipv6/conf/default/accept_dad")
_PORT_MASK_STEP: Final = 0x1000
_BURST: Final = 32  # kilobytes a rate limit lets through at once
_QUEUE: Final = 50  # milliseconds of queue before a rate limit; what does not fit is lost
_PORT_MASKS: Final = 0x4000  # masks stay below, so that ports from 32768 up stay there


DIRECTIONS: Final = ("both", "out", "in")
_MEND: Final = """
table netdev {table}
delete table netdev {table}
"""
_CUT: Final = (
    _MEND
    + """
table netdev {table} {{
  chain lose {{
    type filter hook ingress device "{device}" priority 0; policy drop;
  }}
}}
"""
)


class Node(Namespace):
    """One machine: a namespace with its loopback up and, once attached, an address on a network.

    Without ``ipv6`` it has no IPv6 at all, not even on its loopback.
    """

    def __init__(self, space: Space, name: str, *, ipv6: bool = False) -> None:
        super().__init__(space, name, space.new_pid())
        self._plug: Plug | None = None
        self.address = ""
        """Its (first) IPv4 address on the network it is attached to."""
        self.address6 = ""
        """Its (first) IPv6 address there, if it has one."""
        self.ip("link set lo up")
        if Path("/proc/sys/net/ipv6").exists():
            self.sysctl(*(("0", *_NO_DAD) if ipv6 else ("1", *_NO_IPV6)))

    def link_down(self) -> None:
        """Pull the cable: the carrier goes, addresses and routes stay. Raises LabError."""
        self._set_link("down")

    def link_up(self) -> None:
        """Plug the cable in again. Raises LabError."""
        self._set_link("up")

    def cut(self, direction: str = "both") -> None:
        """Lose all that crosses its cable: ``out`` what it sends, ``in`` what it is sent, or ``both``.

        Both ends stay up: nobody is told. Raises LabError, ValueError for another direction.
        """
        if direction not in DIRECTIONS:
            raise ValueError(f"{direction!r} is none of {', '.join(DIRECTIONS)}")
        plug = self.plug
        if direction in ("both", "out"):
            plug.gateway.nft(_CUT.format(table=f"cut-{plug.port}", device=plug.port))
        if direction in ("both", "in"):
            self.nft(_CUT.format(table=f"cut-{plug.interface}", device=plug.interface))

    def mend(self) -> None:
        """Undo what :meth:`cut` did. Raises LabError."""
        plug = self.plug
        plug.gateway.nft(_MEND.format(table=f"cut-{plug.port}"))
        self.nft(_MEND.format(table=f"cut-{plug.interface}"))

    def capture(self, path: Path) -> Capture:
        """Write all that crosses its cable to the pcap file ``path`` until the capture is closed.

        Raises LabError when it cannot.
        """
        plug = self.plug
        return Capture(plug.gateway, plug.port, path)

    def condition(self, out: Conditions, into: Conditions | None = None) -> None:
        """Change the conditions on its cable: what it sends, and what it is sent (the same if None).

        Raises LabError when its cable has none: that is for whoever attached it to say.
        """
        if self.plug.cable is None:
            raise LabError(f"the cable of {self.name} is the kernel's: it was attached without conditions")
        self.plug.cable.ask({"out": asdict(out), "in": asdict(into or out)})

    def limit_rate(self, bytes_per_second: int) -> None:
        """Make its cable that slow in each direction, with a drop-tail queue of 50 ms. Raises LabError."""
        plug = self.plug
        bucket = f"tbf rate {bytes_per_second}bps burst {_BURST}kb latency {_QUEUE}ms"
        for end, interface in ((self, plug.interface), (plug.gateway, plug.port)):
            end.run([tool("tc"), "qdisc", "replace", "dev", interface, "root", *bucket.split()])

    def plugged(self, plug: Plug, address: str, address6: str = "") -> None:
        """Note where this node's cable is at both ends, and its addresses there."""
        self._plug = plug
        self.address = address
        self.address6 = address6

    def unplugged(self) -> None:
        """Note that this node has no cable any more."""
        self._plug = None
        self.address = self.address6 = ""

    @property
    def plug(self) -> Plug:
        """Where its cable is. Raises LabError when it has none."""
        if self._plug is None:
            raise LabError(f"{self.name} is not attached to a network")
        return self._plug

    def _set_link(self, state: str) -> None:
        plug = self.plug
        plug.gateway.ip(f"link set {plug.port} {state}")


class Plug(NamedTuple):
    """A cable: the ``port`` of the gateway at one end, the node's ``interface`` at the other."""

    gateway: Namespace
    port: str
    interface: str
    cable: Child | None = None
    """The process that is the cable, when it is one in user space."""


class Capture:
    """A program that writes a pcap file, until :meth:`close` or the end of the lab."""

    def __init__(self, node: Namespace, interface: str, path: Path) -> None:
        script = str(Path(__file__).with_name("capture.py"))
        self.path = path
        self._process = node.popen(
            [sys.executable, "-I", "-S", script, interface, str(path.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        node.on_close(self.close)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.close()
            raise LabError(f"nothing can be captured at {interface} of {node.name}")

    def close(self) -> None:
        """End the file, with all that has crossed so far in it. Safe to call twice."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(10.0)
        process.stdout.close()


class Gateway(Node):
    """A node that forwards between its networks."""

    def __init__(self, space: Space, name: str, *, ipv6: bool = False) -> None:
        super().__init__(space, name, ipv6=ipv6)
        self.sysctl("1", "net/ipv4/ip_forward")
        if ipv6:
            self.sysctl("1", "net/ipv6/conf/all/forwarding")


class Router(Gateway):
    """A NAT router: ``layer`` says how it behaves; its home side is ``lan``, its public side ``wan``."""

    def __init__(self, space: Space, name: str, layer: LayerConfig, *, ipv6: bool = False) -> None:
        super().__init__(space, name, ipv6=ipv6)
        self.layer = layer
        self._port_mask = port_mask_of(layer)

    def load(self) -> None:
        """Load the rules of its kind; needs its public address. Raises LabError."""
        self.nft(ruleset(self.layer, self.address, self._port_mask))

    def change(self, layer: LayerConfig) -> None:
        """Become a NAT that behaves like ``layer``, with no memory of before. Raises LabError, ValueError."""
        ruleset(layer, self.address, 0)
        self.layer = layer
        self._port_mask = port_mask_of(layer)
        self.reset()

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
    """One subnet, or a pair of them: a bridge in the namespace of its gateway, which is host 1 in it."""

    def __init__(
        self,
        gateway: Gateway,
        bridge: str,
        subnet: IPv4Network,
        mtu: int = 1500,
        subnet6: IPv6Network | None = None,
    ) -> None:
        self.gateway = gateway
        self.bridge = bridge
        self.subnet = subnet
        self.subnet6 = subnet6
        self.mtu = mtu
        self._next_port = 0
        gateway.ip(
            f"link add {bridge} type bridge",
            *(f"address add {address} dev {bridge}" for address in self._own(1)),
            f"link set {bridge} mtu {mtu} up",
        )

    def attach(self, node: Node, interface: str, *numbers: int, conditions: Conditions | None = None) -> None:
        """Run a cable from ``node`` to this network, with these host numbers and default routes.

        With ``conditions`` the cable is one in user space that keeps them in both directions.
        """
        plug = self.cable(node, interface, conditions)
        node.ip(
            *(
                f"address add {address} dev {interface}"
                for place, number in enumerate(numbers)
                for address in self._own(number, second=place > 0)
            ),
            f"link set {interface} up",
            f"route add default via {host_in(self.subnet, 1)}",
        )
        if self.subnet6 is not None:
            node.ip6(f"route add default via {self.subnet6[1]}")
        address6 = "" if self.subnet6 is None else str(self.subnet6[numbers[0]])
        node.plugged(plug, host_in(self.subnet, numbers[0]), address6)

    def cable(self, node: Node, interface: str, conditions: Conditions | None = None) -> Plug:
        """A cable from ``node`` to this network and nothing else: no address, the node's end down."""
        port = f"{self.bridge}-{self._next_port}"
        mtu = self.mtu
        self._next_port += 1
        cable = None
        if conditions is None:
            ends = f"{port} mtu {mtu} type veth peer name {interface} mtu {mtu} netns {node.pid}"
            self.gateway.ip(f"link add {ends}")
        else:
            from natwalk.lab.child import Child

            both = asdict(conditions)
            plan = {"near": interface, "far": port, "out": both, "in": both}
            cable = Child(node, "natwalk.lab.cable", plan, str(self.gateway.pid))
            node.ip(f"link set {interface} mtu {mtu}")
            self.gateway.ip(f"link set {port} mtu {mtu}")
        self.gateway.ip(f"link set {port} master {self.bridge} up")
        return Plug(self.gateway, port, interface, cable)

    def detach(self, node: Node) -> None:
        """Take the cable of ``node`` away, and with it the node's addresses and routes. Raises LabError."""
        plug = node.plug
        if plug.cable is None:
            self.gateway.ip(f"link del {plug.port}")
        else:
            plug.cable.close()
        node.unplugged()

    def _own(self, number: int, *, second: bool = False) -> list[str]:
        """The addresses of host ``number`` with their prefix lengths; ``second`` ones do not send unasked."""
        addresses = [f"{host_in(self.subnet, number)}/{self.subnet.prefixlen}"]
        if self.subnet6 is not None:
            preference = " preferred_lft 0" if second else ""
            addresses.append(f"{self.subnet6[number]}/{self.subnet6.prefixlen} nodad{preference}")
        return addresses
