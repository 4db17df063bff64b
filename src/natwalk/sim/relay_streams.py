"""A peer's connections to the TURN server over TCP and TLS, for where no UDP gets out.

Whether one comes about is up to what stands before the peer: its SYN is judged, and translated, by every
box on the way out. What follows is a :class:`natwalk.sim.streams.Stream`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Final, Protocol

from natwalk.core import Address, Path
from natwalk.ice import TurnServerAddress
from natwalk.nat import SYN, Dropped, IpProtocol, Packet, Segment
from natwalk.sim.driver import Driver
from natwalk.sim.internet import Internet, Site
from natwalk.sim.streams import Stream
from natwalk.turn import TurnServer

FIRST_PORT: Final = 50_000
NO_ANSWER: Final = 10.0
"""Seconds after which a connection that something on the way swallows is given up."""


LOST: Final = "the connection was lost"


class LinkedCore(Protocol):
    """What a path manager, and a peer connection over one, hear of their connections to relays."""

    def relay_link_opened(
        self, generation: int, server: TurnServerAddress, local: Address, now: float
    ) -> None:
        """A connection is there."""

    def relay_link_failed(self, generation: int, server: TurnServerAddress, reason: str, now: float) -> None:
        """A connection is not to be had."""

    def relay_link_closed(self, path: Path, reason: str, now: float) -> None:
        """A connection has ended."""


class RelayStreams:
    """What one peer at ``site`` has open to the server of ``internet``.

    ``on_lost`` hears of connections that end without the peer having asked for it.
    """

    def __init__(
        self,
        internet: Internet,
        site: Site,
        client: Driver[Any],
        server: Driver[Any],
        on_lost: Callable[[Path], None],
    ) -> None:
        self._network = internet.network
        self._site = site
        self._client = client
        self._server = server
        self._on_lost = on_lost
        self._streams: dict[Path, Stream] = {}
        self._ports = count(FIRST_PORT)

    def open(
        self, server: TurnServerAddress, opened: Callable[[Address], None], failed: Callable[[str], None]
    ) -> None:
        """Connect to ``server``; one of the two is called when the answer is there, or stays away."""
        version = server.address.version
        host = next((a for a in self._site.host.addresses if Address(a, 0).version == version), None)
        if host is None:
            failed("no address of that IP version")
            return
        local = Address(host, next(self._ports))
        delay = self._site.access.outward.config.delay
        asked = self._network.now

        def ask() -> None:
            seen = self._passes(local, server.address)
            if self._client.closed:
                return
            if seen is not None:
                self._network.after(2 * delay, lambda: answered(seen))
            elif self._network.now - asked < NO_ANSWER:
                self._network.after(1.0, ask)
            else:
                failed("no answer")

        def answered(seen: Address) -> None:
            if self._client.closed:
                return
            stream = Stream(
                self._network,
                self._client,
                self._server,
                local=local,
                remote=server.address,
                seen=seen,
                delay=delay,
                transport=server.transport,
                on_lost=self._lost,
                passes=lambda: self._line(local),
            )
            self._streams[stream.here] = stream
            opened(local)

        ask()

    def release(self, path: Path) -> None:
        """Close the connection at ``path``; harmless when there is none."""
        stream = self._streams.pop(path, None)
        if stream is not None:
            stream.cut()

    def _line(self, local: Address) -> bool:
        """Whether the line is whole, both ways, and still that of the host."""
        link = self._site.access
        return link.outward.up and link.inward.up and local.host in self._site.host.addresses

    def _passes(self, local: Address, remote: Address) -> Address | None:
        """The address that ``remote`` sees a connection from ``local`` at, None when its SYN is dropped."""
        if not self._line(local):
            return None
        routers = self._site.routers6 if remote.version == 6 else self._site.routers
        packet = Packet(local, remote, b"", IpProtocol.TCP, tcp=Segment(SYN))
        for router in routers:
            if router.box is None:
                continue
            verdict = router.box.outbound(packet, self._network.now)
            if isinstance(verdict, Dropped):
                return None
            packet = verdict.packet
        return packet.source

    def _lost(self, path: Path) -> None:
        core = self._server.core
        if path in self._streams:
            del self._streams[path]
            self._on_lost(path)
        elif isinstance(core, TurnServer) and not self._server.closed:
            self._server.do(core.client_closed, path)


class RelayLinks(RelayStreams):
    """The same for a core that asks with RelayLinkWanted; it hears of the outcome by ``client``."""

    def __init__(
        self, internet: Internet, site: Site, client: Driver[Any], server: Driver[Any], core: LinkedCore
    ) -> None:
        super().__init__(
            internet, site, client, server, lambda path: client.do(core.relay_link_closed, path, LOST)
        )
        self._core = core

    def connect(self, generation: int, server: TurnServerAddress) -> None:
        """Carry out a RelayLinkWanted."""
        do, core = self._client.do, self._core
        self.open(
            server,
            lambda local: do(core.relay_link_opened, generation, server, local),
            lambda reason: do(core.relay_link_failed, generation, server, reason),
        )
