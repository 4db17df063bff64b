"""The lab: an internet on this machine with a server and two hosts behind NATs of chosen kinds."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from natwalk.lab.errors import LabError, LabUnavailable
from natwalk.lab.nodes import Gateway, Network, Node, Router
from natwalk.lab.space import Space
from natwalk.lab.topology import SERVER_HOSTS, SERVER_NET, SITES, Site
from natwalk.nat import KINDS, KindSpec, Nat64Config, preset

_HOST_NUMBERS: Final = {"a": 10, "b": 11}
_ROUTER_NUMBER: Final = 2
_KERNEL_HINT: Final = "the kernel must have veth, bridges and nftables with NAT, and /proc/sys be writable"


if TYPE_CHECKING:
    from natwalk.lab.engine import EngineRouter

NatRouter: TypeAlias = "Router | EngineRouter"


class Lab:
    """An internet of network namespaces: ``server``, hosts ``a`` and ``b``, the routers before them.

    ``nat_a`` and ``nat_b`` take the names of :data:`natwalk.nat.PRESETS`. Those of
    :data:`~natwalk.nat.KINDS` are routers of the kernel, with nftables; the others, or all with ``engine``,
    are our own engine as a router in user space. With ``same_lan`` both hosts are behind one router, of kind
    ``nat_a``. ``mtu`` is that of the two sites' public links, in bytes.

    Use it as a context manager, or call :meth:`close`. It is built when the constructor returns, blocks for
    a few tenths of a second, and disappears with everything in it even if this process is killed. Raises
    :class:`LabUnavailable` where the machine gives us no namespaces, ValueError for an unknown kind.
    """

    def __init__(
        self,
        nat_a: str = "port-restricted",
        nat_b: str = "port-restricted",
        *,
        same_lan: bool = False,
        mtu: int = 1500,
        engine: bool = False,
    ) -> None:
        self.kind_a = nat_a
        self.kind_b = nat_a if same_lan else nat_b
        specs = preset(self.kind_a), preset(self.kind_b)
        for spec in specs:
            if any(isinstance(layer, Nat64Config) for layer in spec.layers):
                raise ValueError(f"{spec.name} needs IPv6, which the sites of a Lab do not have: use a World")
        self._engine = engine
        self._mtu = mtu
        self._space = Space()
        try:
            self.internet = Gateway(self._space, "internet")
            self.internet.ip("route add blackhole default")  # private and unknown destinations vanish
            self.server = Node(self._space, "server")
            Network(self.internet, "net-s", SERVER_NET).attach(self.server, "eth0", *SERVER_HOSTS)
            lan, self.routers_a = self._site(SITES["a"], specs[0])
            self.a = self._host("a", lan)
            self.routers_b = self.routers_a
            if not same_lan:
                lan, self.routers_b = self._site(SITES["b"], specs[1])
            self.b = self._host("b", lan)
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
    def nat_a(self) -> NatRouter:
        """The router next to host a. Raises LabError when there is no NAT before it."""
        return _nearest(self.routers_a, "a")

    @property
    def nat_b(self) -> NatRouter:
        """The router next to host b (host a's with ``same_lan``). Raises LabError when there is none."""
        return _nearest(self.routers_b, "b")

    @property
    def in_user_namespace(self) -> bool:
        """Whether the lab was built without being root."""
        return self._space.in_user_namespace

    @property
    def keeper_pid(self) -> int:
        """The process that ends last, when nothing of the lab is left."""
        return self._space.keeper_pid

    def close(self) -> None:
        """Kill every program in the lab and remove it. Safe to call twice."""
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

    def _site(self, site: Site, spec: KindSpec) -> tuple[Network, tuple[NatRouter, ...]]:
        """Build one side; the network its hosts attach to, and its routers from there outwards."""
        network = Network(self.internet, f"net-{site.name}", site.public, self._mtu)
        layers = spec.layers
        if layers and (self._engine or spec.name not in KINDS):
            from natwalk.lab.engine import EngineRouter  # needs more than the standard library

            engine = EngineRouter(self._space, f"nat-{site.name}", spec)
            engine.attach(network, _ROUTER_NUMBER)
            lan = Network(engine, "lan", site.lan)
            engine.load(lan)
            return lan, (engine,)
        routers: list[Router] = []
        for depth in reversed(range(len(layers))):
            name = f"nat-{site.name}" if depth == 0 else f"carrier-{site.name}"
            router = Router(self._space, name, layers[depth])
            network.attach(router, "wan", _ROUTER_NUMBER)
            network = Network(router, "lan", site.lan if depth == 0 else site.carrier)
            router.load()
            routers.insert(0, router)
        return network, tuple(routers)

    def _host(self, name: str, network: Network) -> Node:
        host = Node(self._space, name)
        network.attach(host, "eth0", _HOST_NUMBERS[name])
        host.sysctl(SITES[name].ports, "net/ipv4/ip_local_port_range")
        return host


def why_unavailable() -> str | None:
    """Why there can be no lab on this machine, with what would help; None when there can."""
    try:
        Lab("full-cone", "symmetric").close()
    except LabUnavailable as error:
        return str(error)
    return None


def _nearest(routers: tuple[NatRouter, ...], side: str) -> NatRouter:
    if not routers:
        raise LabError(f"host {side} has a public address: there is no NAT before it")
    return routers[0]
