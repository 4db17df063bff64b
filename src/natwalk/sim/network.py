"""The network: virtual clock, hosts, routers, links and channels, all from one seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import BinaryIO, Protocol

from natwalk.core import LocalProtocolError
from natwalk.nat import LayerConfig, Middlebox, Packet, make_box
from natwalk.sim.channel import Channel
from natwalk.sim.clock import Alarm, Clock
from natwalk.sim.host import Host
from natwalk.sim.link import Link, LinkConfig, Pipe
from natwalk.sim.pcapng import Capture
from natwalk.sim.router import Router
from natwalk.sim.trace import Happening, Trace


class Node(Protocol):
    """What a link can lead to from inside: a host, a router, or where several of them share a line."""

    name: str

    def plug(self, address: str, uplink: Pipe) -> None:
        """Take ``uplink`` as the way out for ``address``."""

    def receive(self, packet: Packet, serial: int) -> None:
        """Take a packet from outside."""


class Network:
    """A whole internet in a process. Same seed and same calls: same trace, byte for byte.

    Every host, router and link draws from randomness of its own, derived from the seed and its name, so
    that adding one does not change what happens at another. Names are unique.
    """

    def __init__(self, seed: int, *, trace: Trace | None = None) -> None:
        self.seed = seed
        self.clock = Clock()
        self.trace = Trace() if trace is None else trace
        self.hosts: dict[str, Host] = {}
        self.routers: dict[str, Router] = {}
        self.links: dict[str, Link] = {}
        self._captures: list[Capture] = []
        self.datagrams = 0
        """How many datagrams and messages were sent so far."""

    @property
    def now(self) -> float:
        """Virtual time in seconds, the ``now`` of every core."""
        return self.clock.now

    # Building

    def host(self, name: str) -> Host:
        """A new host, without addresses until it is connected."""
        self._claim(name)
        host = Host(name, self.clock, self.trace, self.rng(name), self._next_serial)
        self.hosts[name] = host
        return host

    def router(
        self, name: str, layer: LayerConfig | None = None, *, public_addresses: tuple[str, ...] = ()
    ) -> Router:
        """A new router with the middlebox ``layer`` describes, at ``public_addresses`` if it is a NAT."""
        self._claim(name)
        box: Middlebox | None = None
        if layer is not None:
            box = make_box(layer, *public_addresses, random_bytes=self.rng(name).randbytes)
        self.routers[name] = Router(name, self.clock, self.trace, box)
        return self.routers[name]

    def connect(
        self,
        inner: Node,
        outer: Router,
        *addresses: str,
        config: LinkConfig | None = None,
        inwards: LinkConfig | None = None,
    ) -> Link:
        """Link ``inner`` to the router ``outer``, which then routes ``addresses`` to it.

        ``inwards`` is for links that differ by direction. A host gets the addresses as its own and may be
        connected several times; a router only once.
        """
        name = f"{inner.name}-{outer.name}"
        while name in self.links:
            name += "'"
        outward = self._pipe(f"{inner.name}>{outer.name}", config, outer.from_inside)
        inward = self._pipe(f"{outer.name}>{inner.name}", inwards or config, inner.receive)
        for address in addresses:
            inner.plug(address, outward)
            outer.route(address, inward)
        link = self.links[name] = Link(name, outward, inward, self.clock, self.trace)
        for capture in self._captures:
            capture.add(link)
        return link

    def disconnect(self, inner: Host | Router, outer: Router, *addresses: str) -> None:
        """Take ``addresses`` away again, as when a host leaves a network."""
        self.note(inner.name, f"left {outer.name}")
        for address in addresses:
            inner.unplug(address)
            outer.unroute(address)

    def capture(self, stream: BinaryIO) -> Capture:
        """Write every packet on every link from now on to ``stream``, as pcapng for Wireshark."""
        capture = Capture(stream, self.clock)
        for link in self.links.values():
            capture.add(link)
        self._captures.append(capture)
        return capture

    def channel(self, a: Host, b: Host, delay: float) -> Channel:
        """A message channel that connects as soon as the simulation runs; ``delay`` one-way in seconds."""
        channel = Channel((a.name, b.name), delay, self.clock, self.trace, self._next_serial)
        channel.restore()
        return channel

    # Running

    def at(self, when: float, call: Callable[..., None], *args: object) -> None:
        """Have ``call(*args)`` happen at virtual time ``when``: a scenario event such as ``link.down``."""
        self.clock.call_at(when, call, *args)

    def after(self, delay: float, call: Callable[..., None], *args: object) -> None:
        """Have ``call(*args)`` happen ``delay`` seconds from now."""
        self.clock.call_at(self.clock.now + delay, call, *args)

    def alarm(self, call: Callable[[], None]) -> Alarm:
        """A timer to set as often as needed."""
        return Alarm(self.clock, call)

    def run(
        self,
        until: float | None = None,
        *,
        stop: Callable[[], bool] | None = None,
        max_events: int = 1_000_000,
    ) -> bool:
        """Let time pass until ``stop()`` is true, ``until`` (virtual time) or nothing is left to happen.

        Returns True when ``stop`` ended it. Raises SimulationError after ``max_events`` events: a loop.
        """
        return self.clock.run(until, stop, max_events)

    def run_for(
        self, seconds: float, *, stop: Callable[[], bool] | None = None, max_events: int = 1_000_000
    ) -> bool:
        """As :meth:`run`, until that many seconds from now."""
        return self.run(self.clock.now + seconds, stop=stop, max_events=max_events)

    def note(self, place: str, text: str) -> None:
        """Put a line about the scenario in the trace."""
        self.trace.add(self.clock.now, Happening.SCENARIO, place, 0, None, text)

    def rng(self, name: str) -> Random:
        """Randomness of its own for ``name``: not for secrets, for repeatable runs."""
        return Random(f"{self.seed}/{name}")  # noqa: S311

    def _pipe(self, name: str, config: LinkConfig | None, deliver: Callable[..., None]) -> Pipe:
        return Pipe(name, config or LinkConfig(), self.clock, self.trace, self.rng(name), deliver)

    def _claim(self, name: str) -> None:
        if name in self.hosts or name in self.routers:
            raise LocalProtocolError(f"there is a node {name!r} already")

    def _next_serial(self) -> int:
        self.datagrams += 1
        return self.datagrams
