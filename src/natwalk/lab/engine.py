"""A router whose NAT is our own engine, in user space: every preset, every dimension, layers too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from natwalk.lab.behaviour import table_of
from natwalk.lab.child import Child
from natwalk.lab.conditions import Conditions
from natwalk.lab.errors import LabError
from natwalk.lab.nodes import Gateway, Network
from natwalk.lab.router_plan import INSIDE, OUTSIDE, BoxPlan, RouterPlan
from natwalk.lab.space import Space
from natwalk.lab.topology import host_in
from natwalk.nat import Allocation, KindSpec, LayerConfig, Nat64Config, NatConfig

_TO_INSIDE: Final = 100
_TO_OUTSIDE: Final = 101
"""Routing tables: for what comes from the LAN, and for what comes to hosts behind a firewall."""
_LOOSE: Final = tuple(f"net/ipv4/conf/{name}/rp_filter" for name in ("all", "lan", "wan", INSIDE, OUTSIDE))
_MTU: Final = 9000
_QUEUE: Final = 2000  # packets that wait for us on either side while others have the processor
_STRANGER: Final = 250
"""The host number, on the LAN, of the made-up host that fills a table."""


class EngineRouter(Gateway):
    """A router that leaves translation to the engine: home side ``lan``, public side ``wan``.

    The kernel hands all it would forward between them to a process in this namespace
    (:mod:`natwalk.lab.tun_router`). The public addresses are the engine's: the kernel only answers for them
    where neighbours ask. Behind a kind that translates nothing hosts are reached by their own addresses.
    """

    def __init__(
        self, space: Space, name: str, spec: KindSpec, *, seed: int | None = None, ipv6: bool = False
    ) -> None:
        super().__init__(space, name, ipv6=ipv6)
        self.spec = spec
        self._seed = seed
        self._public: list[str] = []
        self._lan: Network | None = None
        self._uplink: Network | None = None
        self._process: Child | None = None

    @property
    def public_addresses(self) -> tuple[str, ...]:
        """Its IPv4 addresses on the public side."""
        return tuple(self._public)

    @property
    def process_pid(self) -> int:
        """The process that translates. Raises LabError before :meth:`load`."""
        if self._process is None:
            raise LabError(f"{self.name} has not been started")
        return self._process.pid

    def attach(self, network: Network, number: int, conditions: Conditions | None = None) -> None:
        """Run its cable to ``network``; its addresses there begin with host ``number``. Raises LabError."""
        if not self.spec.translates:
            network.attach(self, "wan", number, conditions=conditions)
            self._public = [self.address]
        else:
            plug = network.cable(self, "wan", conditions)
            self._public = [host_in(network.subnet, number + n) for n in range(self.spec.public_addresses)]
            self.ip(
                "link set wan up",
                f"route add {network.subnet} dev wan",
                f"route add default via {host_in(network.subnet, 1)} dev wan",
            )
            address6 = ""
            if network.subnet6 is not None:
                address6 = str(network.subnet6[number])
                self.ip6(
                    f"address add {address6}/{network.subnet6.prefixlen} dev wan nodad",
                    f"route add default via {network.subnet6[1]}",
                )
            self.plugged(plug, self._public[0], address6)
        self._uplink = network

    def load(self, lan: Network) -> None:
        """Start the engine between the network it is attached to and ``lan``. Raises LabError."""
        assert self._uplink is not None, "attach comes first"
        self._lan = lan
        self._process = Child(self, "natwalk.lab.tun_router", self._plan(self.spec.layers))
        self.sysctl("0", *_LOOSE)
        prefix = _prefix(self.spec.layers)
        configure = self.ip if prefix is None else self.ip6
        self.ip(
            f"link set {INSIDE} mtu {_MTU} txqueuelen {_QUEUE} up",
            f"link set {OUTSIDE} mtu {_MTU} txqueuelen {_QUEUE} up",
        )
        configure(
            f"rule add pref 100 iif lan to {prefix or '0.0.0.0/0'} lookup {_TO_INSIDE}",
            f"route add default dev {INSIDE} table {_TO_INSIDE}",
        )
        if self.spec.translates:
            self.sysctl("1", "net/ipv4/conf/wan/proxy_arp")
            self.sysctl("0", "net/ipv4/neigh/wan/proxy_delay")  # or neighbours wait for up to 0.8 s
            self.ip(*(f"route add {address} dev {OUTSIDE}" for address in self._public))
        else:
            self.ip(
                f"rule add pref 101 iif wan to {lan.subnet} lookup {_TO_OUTSIDE}",
                f"route add default dev {OUTSIDE} table {_TO_OUTSIDE}",
            )
            self._uplink.gateway.ip(f"route add {lan.subnet} via {self.address}")

    def reset(self, *, new_ports: bool = False) -> None:
        """Lose all state, as a router that restarts does. Raises LabError.

        With ``new_ports`` ports are no longer kept: mappings made from now on get random ones.
        """
        if new_ports:
            layers = tuple(
                replace(layer, allocation=Allocation.RANDOM)
                if isinstance(layer, NatConfig) and layer.allocation is Allocation.PRESERVE
                else layer
                for layer in self.spec.layers
            )
            self._ask({"do": "change", "plan": self._plan(layers)})
        else:
            self._ask({"do": "reset"})

    def change(self, spec: KindSpec) -> None:
        """Become a NAT of another kind, with no memory of before.

        Raises LabError when that kind has other IP versions, or more addresses, than this one.
        """
        if spec.translates is not self.spec.translates or _inside(spec.layers) != self._inside:
            raise LabError(f"{self.name} cannot become {spec.name} while it runs: its routes would be others")
        if spec.public_addresses > len(self._public):
            raise LabError(f"{spec.name} has {spec.public_addresses} addresses, {self.name} has fewer")
        self.spec = spec
        self._ask({"do": "change", "plan": self._plan(spec.layers)})

    def fill(self, count: int = 65_536) -> int:
        """Make up to ``count`` mappings of a host that is not there; how many there was room for."""
        assert self._lan is not None
        network = self._lan.subnet6 if self._inside == 6 else self._lan.subnet
        assert network is not None
        return int(self._ask({"do": "fill", "count": count, "host": str(network[_STRANGER])}))

    def statistics(self) -> Mapping[str, Any]:
        """``packets``, ``drops`` with their reasons, ``mappings``. Raises LabError when it has ended."""
        answer: dict[str, Any] = self._ask({"do": "statistics"})
        return answer

    @property
    def _inside(self) -> int:
        return _inside(self.spec.layers)

    def _ask(self, order: object) -> Any:
        if self._process is None:
            raise LabError(f"{self.name} has not been started")
        return self._process.ask(order)

    def _plan(self, layers: tuple[LayerConfig, ...]) -> object:
        box = BoxPlan(
            layers=[table_of(layer) for layer in layers], public=self._public, inside=_inside(layers)
        )
        services = None
        if self.spec.services is not None and self._lan is not None:
            lan = self._lan.subnet
            services = msgspec.to_builtins(self.spec.services.at(host_in(lan, 1), str(lan)))
        return msgspec.to_builtins(RouterPlan(boxes=[box], seed=self._seed, services=services))


def _prefix(layers: tuple[LayerConfig, ...]) -> str | None:
    """Where a NAT64 has the hosts inside see IPv4; None for a NAT from IPv4 to IPv4."""
    return next((layer.prefix for layer in layers if isinstance(layer, Nat64Config)), None)


def _inside(layers: tuple[LayerConfig, ...]) -> int:
    """The IP version of the inner side."""
    return 4 if _prefix(layers) is None else 6
