"""Asyncio shell of behaviour discovery: two sockets, a clock, and an answer."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

from natwalk.aio.flushing import armed, send_all
from natwalk.aio.udp import UdpSocket
from natwalk.core import Address, Path
from natwalk.stun import BehaviourDiscovery, DiscoveryEvent, NatBehaviour, Step

_Batch = list[tuple[bytes, Address]]


async def discover_behaviour(
    server: Address,
    *,
    local: Address | None = None,
    hairpin: bool = True,
    on_step: Callable[[Step], None] | None = None,
) -> NatBehaviour:
    """What the NATs between this machine and ``server`` do (RFC 5780 §4).

    ``local`` is what to bind, by default a free port of the address this machine sends to ``server`` from;
    ``hairpin`` adds the hairpin test, from a second socket. ``on_step`` hears of each test. Takes up to 40
    seconds when the server does not answer. Raises OSError when ``local`` cannot be bound or there is no
    way to ``server``.
    """
    address = local or Address(_source_host(server), 0)
    run = _Run(on_step)
    try:
        sockets = [run.open(address)]
        if hairpin:
            sockets.append(run.open(address.with_port(0)))
        run.start(server, *sockets)
        return await run.result
    finally:
        run.close()


class _Run:
    """One discovery with its sockets and its timer."""

    def __init__(self, on_step: Callable[[Step], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[NatBehaviour] = self._loop.create_future()
        self._core: BehaviourDiscovery | None = None
        self._on_step = on_step
        self._sockets: dict[Address, UdpSocket] = {}
        self._timer: asyncio.TimerHandle | None = None

    def open(self, address: Address) -> Address:
        """Bind one socket; returns its address."""
        bound: list[Address] = []
        sock = UdpSocket.bind(address, lambda batch: self._on_datagrams(bound[0], batch))
        bound.append(sock.local)
        self._sockets[sock.local] = sock
        return sock.local

    def start(self, server: Address, local: Address, second: Address | None = None) -> None:
        """Make the core and send its first request."""
        self._core = BehaviourDiscovery(
            server, local, random_bytes=secrets.token_bytes, now=self._loop.time(), second=second
        )
        self._flush(self._core)

    def close(self) -> None:
        """Close the sockets, stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets.values():
            sock.close()

    def _on_datagrams(self, local: Address, batch: _Batch) -> None:
        if (core := self._core) is not None:
            for data, remote in batch:
                core.receive(data, Path(local, remote), self._loop.time())
            self._flush(core)

    def _on_timer(self) -> None:
        self._timer = None
        if (core := self._core) is not None:
            due, now = core.next_timeout(), self._loop.time()
            core.handle_timeout(now if due is None else max(due, now))
            self._flush(core)

    def _flush(self, core: BehaviourDiscovery) -> None:
        dropped = core.drops  # what cannot be sent is as good as lost: it is sent again
        send_all(core.poll_transmit, self._sockets, dropped)
        while (event := core.poll_event()) is not None:
            self._take(event)
        self._timer = armed(self._timer, core.next_timeout(), self._loop, self._on_timer)

    def _take(self, event: DiscoveryEvent) -> None:
        if isinstance(event, NatBehaviour):
            if not self.result.done():
                self.result.set_result(event)
        elif self._on_step is not None:
            self._on_step(event)


def _source_host(server: Address) -> str:
    """The address this machine sends to ``server`` from; nothing is sent to find out."""
    family = socket.AF_INET6 if server.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(server.sockname)
        return Address.from_sockname(probe.getsockname()).host
